// check.cc: is what is on the disk what the catalog says, and, where asked, is every block what its
// checksum says?
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "overlay/overlay.h"
#include "store/disk.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

constexpr uint64_t kReadBlocks = 256;

// What a check finds out, and how far it is.
struct Tally {
  CheckReport report;
  Progress progress;
  uint64_t total_bytes = 0;
  std::set<Uuid> bad_layers;  // cannot be used at all

  void Error(const std::string& path, uint64_t offset_bytes, const std::string& message) {
    report.errors.push_back({path, offset_bytes, message});
  }
  void Leak(const std::string& path, const std::string& message) {
    report.leaks.push_back({path, 0, message});
  }
  // False: the caller wants no more.
  bool Checked(uint64_t bytes) {
    report.checked_bytes += bytes;
    return !progress || progress(report.checked_bytes, std::max(total_bytes, report.checked_bytes));
  }
};

const absl::Status& Stopped() {
  static const absl::Status status = absl::CancelledError("stopped before it was complete");
  return status;
}

// Reads [begin, end) blocks of a data file. Bad blocks are told one by one; not OK: the caller
// wants to stop.
Task<absl::Status> ReadRange(DataFile& file, uint64_t begin, uint64_t end, Tally& tally) {
  std::vector<std::byte> bytes;
  for (uint64_t block = begin; block < end;) {
    const uint64_t blocks = std::min(kReadBlocks, end - block);
    bytes.resize(BlockOffsetBytes(blocks));
    const absl::Status status = co_await file.Read(block, bytes);
    if (!status.ok()) {
      for (uint64_t one = block; one < block + blocks; ++one) {
        const absl::Status single = co_await file.Read(one, std::span(bytes).first(kBlockBytes));
        if (!single.ok()) tally.Error(file.file().path(), BlockOffsetBytes(one), Message(single));
      }
    }
    if (!tally.Checked(bytes.size())) co_return Stopped();
    block += blocks;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ReadRanges(Storage& storage, std::string name, std::string path,
                              BlockRanges ranges, Tally& tally) {
  absl::StatusOr<std::shared_ptr<DataFile>> file = co_await DataFile::Open(storage, name);
  if (!file.ok()) {
    tally.Error(path, 0, Message(file.status()));
    co_return absl::OkStatus();
  }
  for (const auto& [begin, end] : ranges)
    COWL_CO_RETURN_IF_ERROR(co_await ReadRange(**file, begin, end, tally));
  co_return absl::OkStatus();
}

// The blocks of one overlay, a window at a time, so that a device that is written to meanwhile is
// not held up.
Task<absl::Status> ReadOverlay(Overlay& overlay, std::string path, uint64_t end_block,
                               Tally& tally) {
  constexpr uint64_t kWindowBlocks = 1 << 16;
  std::vector<std::byte> bytes;
  for (uint64_t window = 0; window < end_block; window += kWindowBlocks) {
    const uint64_t ticket = overlay.EnterRead();
    std::vector<Segment> segments;
    overlay.VisitRange(window, std::min(end_block, window + kWindowBlocks),
                       [&](const Segment& segment) {
                         if (segment.kind == Segment::Kind::kData) segments.push_back(segment);
                       });
    bool go_on = true;
    for (const Segment& segment : segments) {
      for (uint64_t at = 0; at < segment.length && go_on; at += kReadBlocks) {
        const uint64_t blocks = std::min(kReadBlocks, segment.length - at);
        bytes.resize(BlockOffsetBytes(blocks));
        const absl::Status status = co_await overlay.ReadSlots(segment.physical + at, bytes);
        if (!status.ok())
          tally.Error(path, BlockOffsetBytes(segment.physical + at), Message(status));
        go_on = tally.Checked(bytes.size());
      }
    }
    overlay.LeaveRead(ticket);
    if (!go_on) co_return Stopped();
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CheckClosedOverlay(LoopSlot& slot, Uuid id, bool journal_is_durable,
                                      std::string path, bool data, Tally& tally) {
  auto overlay =
      co_await Overlay::Open(slot.loop(), *slot.storage, id, OpenMode::kRead, journal_is_durable);
  if (!overlay.ok()) {
    tally.Error(path, 0, Message(overlay.status()));
    co_return absl::OkStatus();
  }
  if (data) co_return co_await ReadOverlay(**overlay, path, Extent::kStartLimit, tally);
  co_return absl::OkStatus();
}

Task<absl::Status> CheckOpenOverlay(CowDevice& device, std::string path, bool data, Tally& tally) {
  if (!device.has_overlay()) co_return absl::OkStatus();
  if (!device.overlay()->failure().ok()) tally.Error(path, 0, Message(device.overlay()->failure()));
  if (data)
    co_return co_await ReadOverlay(*device.overlay(), path, BlocksCeil(device.size_bytes()), tally);
  co_return absl::OkStatus();
}

void CheckVolume(const std::string& path, const DeviceRow& row, Tally& tally) {
  struct stat found = {};
  if (::lstat(path.c_str(), &found) != 0) {
    tally.Error(path, 0, absl::StrCat("is missing: it holds volume ", row.name));
  } else if (!S_ISREG(found.st_mode)) {
    tally.Error(path, 0, absl::StrCat("is no regular file: it should hold volume ", row.name));
  } else if (static_cast<uint64_t>(found.st_size) < row.size_bytes) {
    tally.Error(path, static_cast<uint64_t>(found.st_size),
                absl::StrCat("ends here: volume ", row.name, " has ", row.size_bytes, " bytes"));
  }
}

// What one layer file says against its row; gathers which blocks of which files it needs.
void CheckLayer(const LayerRow& row, std::vector<Uuid> row_files, const LayerMap& map,
                const std::string& path, std::map<Uuid, BlockRanges>& live, Tally& tally) {
  if (map.superblock.parent != row.parent)
    tally.Error(path, 0, "names another parent layer than the catalog does");
  if (map.superblock.size_bytes != row.size_bytes)
    tally.Error(path, 0, "says another disk size than the catalog does");
  std::vector<Uuid> files = map.map.files;
  std::sort(files.begin(), files.end());
  std::sort(row_files.begin(), row_files.end());
  if (files != row_files) tally.Error(path, 0, "names other data files than the catalog does");
  if (BlockOffsetBytes(map.map.extents.DataBlocks()) != row.stored_bytes) {
    tally.Error(path, 0, "stores another number of blocks than the catalog says");
  }
  for (const Extent& extent : map.map.extents.extents()) {
    if (!extent.is_data()) continue;
    live[map.map.files[extent.source()]].emplace_back(extent.physical(),
                                                      extent.physical() + extent.length());
  }
}

}  // namespace

// The checks of one run, in their order.
struct StoreImpl::CheckRun {
  bool data = false;
  Tally tally;
  std::vector<LayerRow> layers;
  std::vector<std::vector<Uuid>> files;  // of each layer
  std::vector<DeviceRow> devices;
  std::map<Uuid, BlockRanges> live;  // by data file
};

absl::StatusOr<CheckReport> StoreImpl::Check(const std::string& name, bool data, bool repair,
                                             const Progress& progress) {
  if (repair) COWL_RETURN_IF_ERROR(RequireWritable());
  CheckRun run;
  run.data = data;
  run.tally.progress = progress;
  COWL_RETURN_IF_ERROR(CheckCatalog(name, run));
  COWL_RETURN_IF_ERROR(CheckLayers(run));
  for (const DeviceRow& device : run.devices) COWL_RETURN_IF_ERROR(CheckDevice(device, run));
  if (name.empty()) COWL_RETURN_IF_ERROR(CheckLeaks(run));
  if (repair) COWL_RETURN_IF_ERROR(Repair(run));
  return std::move(run.tally.report);
}

absl::Status StoreImpl::CheckCatalog(const std::string& name, CheckRun& run) {
  if (name.empty()) {
    const absl::Status status = catalog_->Check();
    if (absl::IsDataLoss(status)) run.tally.Error(paths_.Of(kCatalogFile), 0, Message(status));
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
  }
  return catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    if (name.empty()) {
      COWL_ASSIGN_OR_RETURN(run.layers, queries.Layers());
      COWL_ASSIGN_OR_RETURN(run.devices, queries.Devices());
    } else {
      COWL_ASSIGN_OR_RETURN(const Named named, ResolveIn(queries, name));
      if (named.device) run.devices = {*named.device};
      COWL_ASSIGN_OR_RETURN(
          run.layers, queries.Chain(named.device ? named.device->base_layer : named.image->layer));
    }
    for (const LayerRow& layer : run.layers) {
      COWL_ASSIGN_OR_RETURN(std::vector<Uuid> files, queries.FilesOf(layer.id));
      run.files.push_back(std::move(files));
      run.tally.total_bytes += run.data ? layer.stored_bytes : 0;
    }
    return absl::OkStatus();
  });
}

absl::Status StoreImpl::CheckLayers(CheckRun& run) {
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  std::shared_lock lock(files_mutex_);
  for (size_t i = 0; i < run.layers.size(); ++i) {
    // Layers may have been merged since the catalog was read.
    const absl::StatusOr<LayerRow> row =
        Read<LayerRow>([&](CatalogQueries& q) { return q.FindLayer(run.layers[i].id); });
    if (absl::IsNotFound(row.status())) continue;
    COWL_RETURN_IF_ERROR(row.status());
    COWL_ASSIGN_OR_RETURN(std::vector<Uuid> files, Read<std::vector<Uuid>>([&](CatalogQueries& q) {
                            return q.FilesOf(row->id);
                          }));
    const std::string path = paths_.DataFile(row->id);
    const auto maps = LoadLayerMaps(*slot, {*row});
    if (maps.ok()) {
      CheckLayer(*row, std::move(files), *maps->front(), path, run.live, run.tally);
    } else {
      run.tally.Error(path, 0, Message(maps.status()));
      // Lost for good, and not just out of reach now: --repair drops what builds on these.
      if (absl::IsDataLoss(maps.status()) || !PathExists(path))
        run.tally.bad_layers.insert(row->id);
    }
  }
  for (auto& [file, ranges] : run.live) {
    ranges = Normalized(std::move(ranges));
    const std::string path = paths_.DataFile(file);
    if (!PathExists(path)) {
      run.tally.Error(path, 0, "is missing, and layers refer to data in it");
    } else if (run.data) {
      COWL_RETURN_IF_ERROR(RunOn(
          slot->loop(), ReadRanges(*slot->storage, DataFileName(file), path, ranges, run.tally)));
    }
  }
  return absl::OkStatus();
}

absl::Status StoreImpl::CheckDevice(const DeviceRow& listed, CheckRun& run) {
  absl::StatusOr<LockedDevice> device = LockDevice(listed.name);
  if (absl::IsNotFound(device.status())) return absl::OkStatus();  // removed meanwhile
  COWL_RETURN_IF_ERROR(device.status());
  const DeviceRow& row = device->row;
  if (row.kind == DeviceRow::Kind::kVolume) {
    const std::string path = absl::StrCat(paths_.Of(kVolumesFolder), "/", row.volume_file);
    CheckVolume(path, row, run.tally);
    return absl::OkStatus();
  }
  const std::string path = paths_.DataFile(row.overlay);
  if (const std::shared_ptr<Disk> disk = device->entry->disk; disk != nullptr) {
    // The gate stays shut meanwhile: a snapshot would take the overlay away.
    return RunOn(disk->slot->loop(), CheckOpenOverlay(*disk->cow, path, run.data, run.tally));
  }
  if (!row.overlay_written) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  if (!row.pending_overlay.IsNil()) return CheckPending(*slot, row, run);
  return RunOn(slot->loop(),
               CheckClosedOverlay(*slot, row.overlay, false, path, run.data, run.tally));
}

// A snapshot or commit that was cut short is no error: the next command that writes mends it. What
// that will go by is checked.
absl::Status StoreImpl::CheckPending(LoopSlot& slot, const DeviceRow& row, CheckRun& run) {
  const std::string path = paths_.DataFile(row.overlay);
  const std::string successor_path = paths_.DataFile(row.pending_overlay);
  const absl::StatusOr<Succession> way = DecidePending(slot, row);
  if (!way.ok()) {
    run.tally.Error(path, 0, Message(way.status()));
    return absl::OkStatus();
  }
  if (way->old_is_layer) {
    COWL_RETURN_IF_ERROR(CheckUnrecordedLayer(slot, row.overlay, run));
  } else {
    COWL_RETURN_IF_ERROR(
        RunOn(slot.loop(), CheckClosedOverlay(slot, row.overlay, way->old_journal_is_durable, path,
                                              run.data, run.tally)));
  }
  if (!way->roll_forward || !row.pending_written) return absl::OkStatus();
  return RunOn(slot.loop(), CheckClosedOverlay(slot, row.pending_overlay, false, successor_path,
                                               run.data, run.tally));
}

// An overlay that is a layer by now, which the catalog does not say yet.
absl::Status StoreImpl::CheckUnrecordedLayer(LoopSlot& slot, const Uuid& id, CheckRun& run) {
  const std::string path = paths_.DataFile(id);
  const auto map = RunOn(slot.loop(), LoadLayerMap(*slot.storage, DataFileName(id)));
  if (!map.ok()) {
    run.tally.Error(path, 0, Message(map.status()));
    return absl::OkStatus();
  }
  BlockRanges ranges;
  for (const Extent& extent : (*map)->map.extents.extents()) {
    if (extent.is_data())
      ranges.emplace_back(extent.physical(), extent.physical() + extent.length());
  }
  if (!run.data) return absl::OkStatus();
  return RunOn(slot.loop(), ReadRanges(*slot.storage, DataFileName(id), path,
                                       Normalized(std::move(ranges)), run.tally));
}

absl::Status StoreImpl::CheckLeaks(CheckRun& run) {
  worker_.Wait(std::chrono::seconds(2));  // what is being freed is no leak
  // So that nothing is there that is just about to be named. A snapshot names its file first,
  // without the lock, and a removal forgets the name first: names from before and after the
  // listing.
  std::unique_lock lock(files_mutex_);
  std::unordered_set<std::string> named;
  COWL_RETURN_IF_ERROR(AddNamedPaths(named));
  std::vector<std::string> paths;
  for (const char* const folder : {kLayersFolder, kVolumesFolder}) {
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(paths_.Of(folder)));
    for (const std::string& name : names)
      paths.push_back(absl::StrCat(paths_.Of(folder), "/", name));
  }
  COWL_RETURN_IF_ERROR(AddNamedPaths(named));
  for (const std::string& path : paths) {
    if (!named.contains(path)) run.tally.Leak(path, "belongs to no image and no device");
  }
  return absl::OkStatus();
}

absl::Status StoreImpl::AddNamedPaths(std::unordered_set<std::string>& named) {
  return catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> ids, queries.NamedFiles());
    for (const Uuid& id : ids) named.insert(paths_.DataFile(id));
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> volumes, queries.VolumeFiles());
    for (const std::string& volume : volumes)
      named.insert(absl::StrCat(paths_.Of(kVolumesFolder), "/", volume));
    return absl::OkStatus();
  });
}

// Frees leaks, and drops the names of what has lost a layer for good.
absl::Status StoreImpl::Repair(CheckRun& run) {
  if (!run.tally.report.leaks.empty()) COWL_RETURN_IF_ERROR(CollectGarbage().status());
  if (run.tally.bad_layers.empty()) return absl::OkStatus();
  COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    const auto is_lost = [&](const Uuid& top) -> absl::StatusOr<bool> {
      COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> chain, edits.Chain(top));
      return std::any_of(chain.begin(), chain.end(), [&](const LayerRow& row) {
        return run.tally.bad_layers.contains(row.id);
      });
    };
    COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> images, edits.Images());
    for (const ImageRow& image : images) {
      COWL_ASSIGN_OR_RETURN(const bool lost, is_lost(image.layer));
      if (lost) COWL_RETURN_IF_ERROR(edits.RemoveImage(image.name, image.tag));
    }
    return absl::OkStatus();
  }));
  ReapAndWait();
  return absl::OkStatus();
}

}  // namespace cowl
