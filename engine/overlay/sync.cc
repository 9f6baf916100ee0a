// Durability: one sync serves every flush that waits for it; epochs end here.
#include <algorithm>
#include <chrono>

#include "base/status.h"
#include "base/units.h"
#include "layer/section_writer.h"
#include "overlay/overlay_internal.h"

namespace cowl {
namespace {

using namespace std::chrono_literals;

// Space goes back to the file system in batches, away from the flushes: punching before a sync
// doubles its time.
constexpr auto kTrimDelay = 200ms;
constexpr uint64_t kPunchBlocksMax = 64 * kMiB / kBlockBytes;
// Freed space kept for the next writes: this much after rewrites, next to nothing after discards.
constexpr uint64_t kKeptBlocks = 32 * kMiB / kBlockBytes;
constexpr uint64_t kKeptBlocksAfterDiscard = 64;

constexpr uint64_t kRewriteBytes = kMiB;

// Reads a range and writes the same bytes back, so that the next sync covers them for certain.
Task<absl::Status> RewriteRange(File& file, uint64_t begin_bytes, uint64_t end_bytes) {
  std::vector<std::byte> bytes;
  while (begin_bytes < end_bytes) {
    bytes.resize(std::min(kRewriteBytes, end_bytes - begin_bytes));
    COWL_CO_RETURN_IF_ERROR(co_await file.Read(begin_bytes, bytes));
    COWL_CO_RETURN_IF_ERROR(co_await file.Write(begin_bytes, bytes));
    begin_bytes += bytes.size();
  }
  co_return absl::OkStatus();
}

}  // namespace

Task<absl::Status> Overlay::Flush(SyncPlace place) {
  const uint64_t needed = position_.last_order;
  while (durable_order_ < needed) {
    COWL_CO_RETURN_IF_ERROR(failure_);
    if (syncing_) {
      co_await sync_done_.Wait();
      place = SyncPlace::kAside;  // whoever was quiet when this was asked may not be by now
    } else {
      COWL_CO_RETURN_IF_ERROR(co_await SyncOnce(place));
    }
  }
  co_return absl::OkStatus();
}

// REQUIRES: no sync is under way.
Task<absl::Status> Overlay::SyncOnce(SyncPlace place) {
  COWL_CHECK(!syncing_);
  if (!failure_.ok()) co_return failure_;
  syncing_ = true;
  const uint64_t covered = position_.last_order;
  slots_.BeginSync();
  written_blocks_ = 0;
  writeback_blocks_ = 0;
  absl::Status status;
  // What this overlay continues must be durable first: whoever finds our records durable takes its
  // seal for a fact.
  const std::shared_ptr<Overlay> predecessor = predecessor_;
  if (predecessor != nullptr) status = co_await predecessor->Flush();
  if (status.ok()) status = co_await RewriteTail();
  if (status.ok()) status = co_await file_->Sync(place);
  slots_.EndSync(status.ok());
  if (status.ok()) {
    durable_order_ = std::max(durable_order_, covered);
  } else {
    Fail(status);
  }
  syncing_ = false;
  StartTrim();
  sync_done_.WakeAll();
  co_return status;
}

// After an unclean close the kernel may hold pages for clean that never reached the disk (a sync
// that failed is told once, perhaps to the process that died). What lies above the last durable
// point, and the superblock, are therefore written again before a sync counts.
Task<absl::Status> Overlay::RewriteTail() {
  if (std::exchange(recovered_root_, false))
    COWL_CO_RETURN_IF_ERROR(co_await WriteSuperblock(*file_, root_));
  const std::vector<SlotRun> slots = std::move(recovered_slots_);
  recovered_slots_.clear();
  for (const SlotRun& run : slots) {
    const uint64_t begin = BlockOffsetBytes(run.physical);
    COWL_CO_RETURN_IF_ERROR(
        co_await RewriteRange(*file_, begin, begin + BlockOffsetBytes(run.blocks)));
  }
  const RecoveredJournal journal = std::move(recovered_journal_);
  recovered_journal_ = {};
  absl::StatusOr<uint64_t> size = file_->SizeBytes();
  if (!size.ok()) co_return size.status();
  for (size_t i = 0; i < journal.chunks.size(); ++i) {
    const bool last = i + 1 == journal.chunks.size();
    const uint64_t begin = BlockOffsetBytes(journal.chunks[i].physical);
    const uint64_t length = last ? journal.last_bytes : BlockOffsetBytes(journal.chunks[i].blocks);
    // A crash may have taken the end of a chunk, which held none of its records.
    COWL_CO_RETURN_IF_ERROR(co_await RewriteRange(*file_, begin, std::min(begin + length, *size)));
  }
  co_return absl::OkStatus();
}

// The kernel marks pages clean after a failed write-back, so trying again would lie: nothing more
// is acknowledged.
void Overlay::Fail(const absl::Status& status) {
  if (failure_.ok()) failure_ = Annotate(status, "the device turned read-only");
}

internal::Detached Overlay::RunBackgroundSync(Overlay* overlay) {
  const BackgroundWork work(overlay->background_, overlay->background_done_);
  // A failure is kept in failure_, where the next request finds it.
  const absl::Status status = co_await overlay->SyncOnce();
  static_cast<void>(status);
}

Task<absl::Status> Overlay::SyncAfterNow() {
  while (syncing_) co_await sync_done_.Wait();
  co_return co_await SyncOnce();
}

// The commit point of everything a superblock says.
Task<absl::Status> Overlay::WriteRoot(Superblock next) {
  next.generation = root_.generation + 1;
  absl::Status status = co_await WriteSuperblock(*file_, next);
  // A full disk (of a file system that does not overwrite in place) has refused the write whole.
  if (absl::IsResourceExhausted(status)) co_return status;
  if (status.ok()) status = co_await SyncAfterNow();
  if (status.ok()) {
    root_ = next;
  } else {
    // Whether the disk has the old or the new one is not known.
    Fail(status);
  }
  co_return status;
}

uint64_t Overlay::KeptFreeBlocks() const {
  return discard_order_ != 0 ? kKeptBlocksAfterDiscard : kKeptBlocks;
}

void Overlay::StartTrim() {
  const uint64_t kept = KeptFreeBlocks();
  if (trim_running_ || closing_ || !failure_.ok() || slots_.backed_free_blocks() <= kept) return;
  trim_running_ = true;
  RunTrim(this, alive_);
}

internal::Detached Overlay::RunTrim(Overlay* overlay, std::shared_ptr<bool> alive) {
  co_await Sleep(overlay->loop_, kTrimDelay);
  if (!*alive) co_return;
  const BackgroundWork work(overlay->background_, overlay->background_done_);
  const uint64_t kept = overlay->KeptFreeBlocks();
  // Slots of a discard that is not durable yet are not free yet: the next trim is for them.
  if (overlay->discard_order_ <= overlay->durable_order_) overlay->discard_order_ = 0;
  absl::Status status;
  // After a failure nobody knows which superblock the disk holds, so what looks free may be named
  // by it.
  while (status.ok() && !overlay->closing_ && overlay->failure_.ok() &&
         overlay->slots_.backed_free_blocks() > kept) {
    status = co_await overlay->PunchSome(overlay->slots_.backed_free_blocks() - kept);
  }
  overlay->trim_running_ = false;
}

Task<absl::Status> Overlay::PunchSome(uint64_t blocks) {
  const SlotRun run = slots_.TakeForPunch(std::min(blocks, kPunchBlocksMax));
  const absl::Status status =
      co_await file_->PunchHole(BlockOffsetBytes(run.physical), BlockOffsetBytes(run.blocks));
  if (status.ok()) {
    slots_.AddHollow(run);
  } else {
    slots_.AddFree(run);
  }
  co_return status;
}

// As far as the file system lets it. What this is done for holds already: space that was not given
// back must not make a failure of it.
Task<void> Overlay::PunchFree() {
  absl::Status status;
  while (status.ok() && slots_.backed_free_blocks() > 0)
    status = co_await PunchSome(slots_.backed_free_blocks());
}

}  // namespace cowl
