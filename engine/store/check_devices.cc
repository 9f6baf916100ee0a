// check_devices.cc: the part of check that looks at devices: overlays, open or closed, and volumes.
//
// A device's gate is held for one piece of its overlay at a time: clients connect and verbs run in
// between, and a device that is open is written to all the while. So each piece begins with the
// question what the device is by now.
#include <sys/stat.h>

#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "overlay/overlay.h"
#include "store/checker.h"

namespace cowl {

// How far the check of one device has come.
struct Checker::DeviceCheck {
  const DeviceRow& listed;
  uint64_t next_block = 0;
  bool done = false;

  // Of a closed device: its overlay as this check opened it, good for as long as nobody else wrote
  // to the file.
  LoopSlot* slot = nullptr;
  std::unique_ptr<Overlay> overlay = nullptr;
  uint64_t generation = 0;
};

namespace {

constexpr uint64_t kReadBlocks = 256;
// Of an overlay's map, looked at in one go.
constexpr uint64_t kWindowBlocks = 1 << 13;
constexpr int kWindowsMax = 4096;
// A gate is not fair: whoever waits for it gets it while this sleeps.
constexpr std::chrono::milliseconds kPause{1};

using OverlayOr = absl::StatusOr<std::unique_ptr<Overlay>>;

Task<void> ReadSegment(Overlay& overlay, const Segment segment, CheckRun& run) {
  std::vector<std::byte> bytes;
  for (uint64_t at = 0; at < segment.length; at += kReadBlocks) {
    const uint64_t block = segment.physical + at;
    bytes.resize(BlockOffsetBytes(std::min(kReadBlocks, segment.length - at)));
    const absl::Status status = co_await overlay.ReadSlots(block, bytes);
    if (!status.ok()) run.Error(overlay.file().path(), BlockOffsetBytes(block), Message(status));
    run.report.checked_bytes += bytes.size();
  }
}

// Reads what the overlay has of [begin, end); returns how many blocks that is.
Task<uint64_t> ReadWindow(Overlay& overlay, uint64_t begin, uint64_t end, CheckRun& run) {
  const uint64_t ticket = overlay.EnterRead();
  std::vector<Segment> segments;
  overlay.VisitRange(begin, end, [&](const Segment& segment) {
    if (segment.kind == Segment::Kind::kData) segments.push_back(segment);
  });
  uint64_t blocks = 0;
  for (const Segment& segment : segments) {
    co_await ReadSegment(overlay, segment, run);
    blocks += segment.length;
  }
  overlay.LeaveRead(ticket);
  co_return blocks;
}

// Reads about a piece of the overlay from `begin` on; returns where to go on.
Task<uint64_t> ReadPiece(Overlay& overlay, uint64_t begin, uint64_t end, CheckRun& run) {
  uint64_t blocks = 0;
  for (int i = 0; i < kWindowsMax && begin < end && blocks < kCheckPieceBlocks; ++i) {
    const uint64_t window_end = std::min(end, begin + kWindowBlocks);
    blocks += co_await ReadWindow(overlay, begin, window_end, run);
    begin = window_end;
  }
  co_return begin;
}

Task<absl::Status> ReadWhole(LoopSlot& slot, Uuid id, bool journal_is_durable, std::string path,
                             uint64_t end_block, CheckRun& run) {
  OverlayOr overlay =
      co_await Overlay::Open(slot.loop(), *slot.storage, id, OpenMode::kRead, journal_is_durable);
  if (!overlay.ok()) {
    run.Error(path, 0, Message(overlay.status()));
    co_return absl::OkStatus();
  }
  for (uint64_t block = 0; run.data && block < end_block;)
    block = co_await ReadPiece(**overlay, block, end_block, run);
  co_return absl::OkStatus();
}

// Only what the device's overlay itself can tell without its blocks is looked at before the first.
Task<uint64_t> CheckOpenPiece(CowDevice& device, uint64_t begin, uint64_t end, CheckRun& run) {
  if (!device.has_overlay()) co_return end;
  Overlay& overlay = *device.overlay();
  if (begin == 0 && !overlay.failure().ok())
    run.Error(overlay.file().path(), 0, Message(overlay.failure()));
  if (!run.data) co_return end;
  co_return co_await ReadPiece(overlay, begin, end, run);
}

Task<absl::StatusOr<uint64_t>> GenerationOf(Overlay& overlay) {
  const absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(overlay.file());
  if (!superblock.ok()) co_return superblock.status();
  co_return superblock->generation;
}

Task<OverlayOr> OpenToRead(LoopSlot& slot, Uuid id) {
  co_return co_await Overlay::Open(slot.loop(), *slot.storage, id, OpenMode::kRead, false);
}

// An overlay goes on its loop.
Task<absl::Status> Drop(std::unique_ptr<Overlay> overlay) {
  overlay.reset();
  co_return absl::OkStatus();
}

void CheckVolume(const std::string& path, const DeviceRow& row, CheckRun& run) {
  struct stat found = {};
  if (::lstat(path.c_str(), &found) != 0) {
    run.Error(path, 0, absl::StrCat("is missing: it holds volume ", row.name));
  } else if (!S_ISREG(found.st_mode)) {
    run.Error(path, 0, absl::StrCat("is no regular file: it should hold volume ", row.name));
  } else if (static_cast<uint64_t>(found.st_size) < row.size_bytes) {
    run.Error(path, static_cast<uint64_t>(found.st_size),
              absl::StrCat("ends here: volume ", row.name, " has ", row.size_bytes, " bytes"));
  }
}

}  // namespace

absl::Status Checker::CheckDevice(const DeviceRow& listed) {
  DeviceCheck check{listed};
  absl::Status status = CheckDevicePiece(check);
  while (status.ok() && !check.done) {
    status = run_.Pause();
    std::this_thread::sleep_for(kPause);
    if (status.ok()) status = CheckDevicePiece(check);
  }
  DropOverlay(check);
  return status;
}

absl::Status Checker::CheckDevicePiece(DeviceCheck& check) {
  const absl::StatusOr<LockedDevice> device = LockListed(check.listed);
  if (!device.ok() && !absl::IsNotFound(device.status())) return device.status();
  if (!device.ok() || device->row.overlay != check.listed.overlay) {
    // Removed, or sealed, or reset. What it has now is newer than this check.
    run_.moved.push_back(check.listed.overlay);
    check.done = true;
    return absl::OkStatus();
  }
  const DeviceRow& row = device->row;
  const uint64_t end = BlocksCeil(row.size_bytes);
  if (row.kind == DeviceRow::Kind::kVolume) {
    CheckVolume(absl::StrCat(store_.paths_.Of(kVolumesFolder), "/", row.volume_file), row, run_);
    check.next_block = end;
  } else if (const std::shared_ptr<Disk> disk = device->entry->disk; disk != nullptr) {
    DropOverlay(check);
    check.next_block =
        RunOn(disk->slot->loop(), CheckOpenPiece(*disk->cow, check.next_block, end, run_));
  } else if (!row.overlay_written) {
    check.next_block = end;
  } else if (!row.pending_overlay.IsNil()) {
    COWL_RETURN_IF_ERROR(CheckPending(row));
    check.next_block = end;
  } else {
    COWL_RETURN_IF_ERROR(CheckClosedPiece(row, check));
  }
  check.done = check.next_block >= end;
  return absl::OkStatus();
}

// The device, also when it has got another name since it was listed.
absl::StatusOr<LockedDevice> Checker::LockListed(const DeviceRow& listed) {
  absl::StatusOr<LockedDevice> device = store_.LockDevice(listed.name);
  if (!absl::IsNotFound(device.status())) return device;
  COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> rows,
                        store_.Read<std::vector<DeviceRow>>(
                            [](CatalogQueries& queries) { return queries.Devices(); }));
  for (const DeviceRow& row : rows) {
    if (row.created_ns == listed.created_ns) return store_.LockDevice(row.name);
  }
  return device;
}

// REQUIRES: the gate is held, and the device is closed.
absl::Status Checker::CheckClosedPiece(const DeviceRow& row, DeviceCheck& check) {
  const std::string path = store_.paths_.DataFile(row.overlay);
  const absl::Status opened = KeepOverlay(row, check);
  const uint64_t end = BlocksCeil(row.size_bytes);
  if (!opened.ok()) run_.Error(path, 0, Message(opened));
  if (!opened.ok() || !run_.data) {
    check.next_block = end;
    return absl::OkStatus();
  }
  check.next_block =
      RunOn(check.slot->loop(), ReadPiece(*check.overlay, check.next_block, end, run_));
  return absl::OkStatus();
}

// Opens the overlay, unless it is open and still what the file holds: every opening that may write
// raises the generation before it does.
absl::Status Checker::KeepOverlay(const DeviceRow& row, DeviceCheck& check) {
  if (check.overlay != nullptr) {
    COWL_ASSIGN_OR_RETURN(const uint64_t generation,
                          RunOn(check.slot->loop(), GenerationOf(*check.overlay)));
    if (generation == check.generation) return absl::OkStatus();
    DropOverlay(check);
  }
  COWL_ASSIGN_OR_RETURN(check.slot, store_.loops_.Any());
  COWL_ASSIGN_OR_RETURN(check.overlay,
                        RunOn(check.slot->loop(), OpenToRead(*check.slot, row.overlay)));
  COWL_ASSIGN_OR_RETURN(check.generation, RunOn(check.slot->loop(), GenerationOf(*check.overlay)));
  return absl::OkStatus();
}

void Checker::DropOverlay(DeviceCheck& check) {
  if (check.overlay == nullptr) return;
  RunOn(check.slot->loop(), Drop(std::move(check.overlay))).IgnoreError();
}

// A snapshot or commit that was cut short is no error: the next command that writes mends it. What
// that will go by is checked.
// REQUIRES: the gate is held, and the device is closed.
absl::Status Checker::CheckPending(const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, store_.loops_.Any());
  const std::string path = store_.paths_.DataFile(row.overlay);
  const uint64_t end = BlocksCeil(row.size_bytes);
  const absl::StatusOr<Succession> way = store_.sealer_.DecidePending(*slot, row);
  if (!way.ok()) {
    run_.Error(path, 0, Message(way.status()));
    return absl::OkStatus();
  }
  if (way->old_is_layer) {
    COWL_RETURN_IF_ERROR(CheckUnrecordedLayer(*slot, row.overlay));
  } else {
    COWL_RETURN_IF_ERROR(RunOn(
        slot->loop(), ReadWhole(*slot, row.overlay, way->old_journal_is_durable, path, end, run_)));
  }
  if (!way->roll_forward || !row.pending_written) return absl::OkStatus();
  return RunOn(slot->loop(), ReadWhole(*slot, row.pending_overlay, false,
                                       store_.paths_.DataFile(row.pending_overlay), end, run_));
}

}  // namespace cowl
