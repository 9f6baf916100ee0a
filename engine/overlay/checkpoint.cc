// Checkpoints: the map and the checksums that the journal carried are written anew, then the
// superblock is switched, then what the old one named is free. Requests go on meanwhile: the map
// was frozen, not copied, and merging happens on a helper thread.
#include <algorithm>
#include <map>
#include <optional>

#include "base/status.h"
#include "base/units.h"
#include "format/checksum_page.h"
#include "layer/section_writer.h"
#include "overlay/overlay_internal.h"

namespace cowl {
namespace {

constexpr uint64_t kJournalBytesMin = 4 * kMiB;

// So many checksums are gone through on the loop; more of them on a helper.
constexpr size_t kSumsAtOnce = 2000;

}  // namespace

struct Overlay::CheckpointWork {
  std::shared_ptr<const OverlayMap::Frozen> frozen;
  Superblock next;  // what the superblock will say
  std::shared_ptr<const ExtentArray> base;
  // Blocks behind the end of the file get no checksum: a record that was replaced may name such,
  // and anywhere, when a crash or a truncation took them.
  uint64_t file_blocks = 0;
  std::map<uint64_t, std::vector<std::byte>> pages;  // by index
  std::vector<uint64_t> page_blocks;
  std::vector<SlotRun> taken;     // by this checkpoint; returned if it fails
  std::vector<SlotRun> replaced;  // free once the superblock is durable
  uint64_t written_bytes = 0;
};

class Overlay::FreezeAwaiter {
 public:
  explicit FreezeAwaiter(Overlay& overlay) : overlay_(overlay) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    overlay_.freeze_waiter_ = waiter;
    overlay_.WakePump();
  }
  void await_resume() const noexcept {}

 private:
  Overlay& overlay_;
};

void Overlay::MaybeCheckpoint() {
  if (checkpointing_ || closing_ || sealed_ || !failure_.ok()) return;
  if (journal_bytes_ > std::max(kJournalBytesMin, checkpoint_bytes_)) RunCheckpoint(this);
}

internal::Detached Overlay::RunCheckpoint(Overlay* overlay) {
  const BackgroundWork work(overlay->background_, overlay->background_done_);
  // A checkpoint that found no room leaves everything as it was. It is tried again when the journal
  // has grown by as much once more: not with every batch, on a disk that stays full.
  const absl::Status status =
      co_await overlay->CheckpointAs(CheckpointKind::kRunning, overlay->root_);
  if (!status.ok()) overlay->journal_bytes_ = 0;
}

Task<absl::Status> Overlay::Checkpoint() {
  COWL_CO_RETURN_IF_ERROR(co_await PrepareToAppend());
  while (checkpointing_) co_await checkpoint_done_.Wait();
  co_return co_await CheckpointAs(CheckpointKind::kRunning, root_);
}

Task<absl::Status> Overlay::SealToLayer(uint64_t size_bytes, Uuid parent, std::string created_by) {
  co_await EndBackground();
  COWL_CO_RETURN_IF_ERROR(failure_);
  // Free space is written to next, so what was found is made durable before: of a file that says it
  // was closed in order, that superblock, which may stand in the page cache alone, while what the
  // one on the disk names is free by it.
  if (root_.clean) {
    COWL_CO_RETURN_IF_ERROR(co_await SyncAfterNow());
  } else {
    COWL_CO_RETURN_IF_ERROR(co_await PrepareToAppend());
  }
  Superblock next = root_;
  next.kind = DataFileKind::kLayer;
  next.clean = false;
  next.parent = parent;
  next.size_bytes = size_bytes;
  next.created_ns = NowNs();
  next.created_by = created_by.substr(0, Superblock::kCreatedByBytesMax);
  COWL_CO_RETURN_IF_ERROR(co_await CheckpointAs(CheckpointKind::kLayer, next));
  co_await PunchFree();
  co_return absl::OkStatus();
}

// Called by the pump, between two journal writes.
Task<absl::Status> Overlay::FreezeForCheckpoint() {
  COWL_CO_RETURN_IF_ERROR(failure_);
  if (sealed_) co_return FailedPrecondition(file_->path() + ": is sealed, it takes no checkpoint");
  COWL_CO_RETURN_IF_ERROR(co_await PrepareToAppend());
  COWL_CO_RETURN_IF_ERROR(co_await SwitchChunk());
  Freeze();
  co_return absl::OkStatus();
}

// Everything up to the journal's present position goes into the checkpoint; the journal begins anew
// there.
void Overlay::Freeze() {
  frozen_ = map_.Freeze();
  frozen_position_ = position_;
  frozen_stored_blocks_ = map_.stored_blocks();
  frozen_chunks_ = std::move(chunks_);
  chunks_.clear();
  if (!frozen_chunks_.empty() && frozen_chunks_.back() == position_.chunk &&
      position_.offset_bytes == 0) {
    frozen_chunks_.pop_back();
    chunks_ = {position_.chunk};
  }
  journal_bytes_ = 0;
}

// Freezes everything, for the last time: nobody appends any more.
void Overlay::EndJournal() {
  if (spare_chunk_) slots_.Return(*spare_chunk_);
  spare_chunk_.reset();
  Freeze();
  frozen_chunks_.insert(frozen_chunks_.end(), chunks_.begin(), chunks_.end());
  chunks_.clear();
  position_.chunk = {};
  position_.offset_bytes = 0;
  frozen_position_ = position_;
}

Task<absl::Status> Overlay::CheckpointAs(CheckpointKind kind, Superblock next) {
  COWL_CHECK(!checkpointing_);
  checkpointing_ = true;
  absl::Status status;
  if (kind == CheckpointKind::kRunning) {
    FreezeAwaiter frozen(*this);
    co_await frozen;
    status = freeze_status_;
    next = root_;  // the pump may have raised the incarnation
  } else {
    EndJournal();
  }
  if (status.ok()) {
    CheckpointWork work;
    work.frozen = frozen_;
    work.next = next;
    status = co_await WriteCheckpoint(work);
    if (status.ok()) {
      InstallCheckpoint(work);
      co_await LetGo(std::move(work));
    } else {
      // After a failure the superblock may name them: what is being written still must not take
      // them.
      if (failure_.ok()) {
        for (const SlotRun& run : work.taken) slots_.Return(run);
      }
      chunks_.insert(chunks_.begin(), frozen_chunks_.begin(), frozen_chunks_.end());
    }
  }
  frozen_ = nullptr;
  frozen_chunks_.clear();
  checkpointing_ = false;
  checkpoint_done_.WakeAll();
  co_return status;
}

// A large map takes its time to be taken apart: not on the loop.
Task<void> Overlay::LetGo(CheckpointWork work) {
  frozen_ = nullptr;  // the other owner
  if (work.frozen->sums.size() < kSumsAtOnce) co_return;
  std::optional<CheckpointWork> last(std::move(work));
  co_await Offload(loop_, [&last] { last.reset(); });
}

Task<absl::Status> Overlay::WriteCheckpoint(CheckpointWork& work) {
  COWL_CO_RETURN_IF_ERROR(co_await LoadOldPages(work));
  const std::shared_ptr<const ExtentArray> old_base = map_.base();
  co_await Offload(loop_, [&work, &old_base] {
    work.base = std::make_shared<const ExtentArray>(MergeRanges(work.frozen->runs, *old_base));
    for (const auto& [physical, sum] : work.frozen->sums) {
      if (physical < work.file_blocks) StoreSum(work.pages[SumPageOf(physical)], physical, sum);
    }
    for (auto& [index, page] : work.pages) FinishSumPage(page, index);
  });
  COWL_CO_RETURN_IF_ERROR(co_await WriteCheckpointSections(work));
  Superblock& next = work.next;
  next.checkpoint_order = frozen_position_.last_order;
  next.journal_block = frozen_position_.chunk.physical;
  next.journal_blocks = frozen_position_.chunk.blocks;
  next.journal_check = frozen_position_.last_check;
  next.stored_blocks = frozen_stored_blocks_;
  // All that the superblock will name must be durable before it is.
  COWL_CO_RETURN_IF_ERROR(co_await SyncAfterNow());
  // Not where the map was frozen: a slot that the frozen map names may have been replaced before
  // that sync, and used again.
  next.resume_order = durable_order_;
  co_return co_await WriteRoot(next);
}

Task<absl::Status> Overlay::LoadOldPages(CheckpointWork& work) {
  absl::StatusOr<uint64_t> size = file_->SizeBytes();
  if (!size.ok()) co_return size.status();
  work.file_blocks = BlocksCeil(*size);
  const auto make_pages = [&work] {
    for (const auto& [physical, sum] : work.frozen->sums) {
      if (physical >= work.file_blocks) continue;
      std::vector<std::byte>& page = work.pages[SumPageOf(physical)];
      if (page.empty()) page.resize(kBlockBytes);
    }
  };
  if (work.frozen->sums.size() < kSumsAtOnce) {
    make_pages();
  } else {
    co_await Offload(loop_, make_pages);
  }
  for (auto& [index, page] : work.pages) {
    absl::StatusOr<std::span<const std::byte>> old = co_await sums_.Page(index);
    if (!old.ok()) co_return old.status();
    std::copy(old->begin(), old->end(), page.begin());
  }
  co_return absl::OkStatus();
}

// Writes pages, page table and map into one run of fresh blocks.
Task<absl::Status> Overlay::WriteCheckpointSections(CheckpointWork& work) {
  work.page_blocks = sums_.page_blocks();
  if (!work.pages.empty()) {
    const uint64_t pages_needed = work.pages.rbegin()->first + 1;
    if (work.page_blocks.size() < pages_needed) work.page_blocks.resize(pages_needed);
  }
  const uint64_t table_blocks = BlocksCeil(work.page_blocks.size() * sizeof(uint64_t));
  const uint64_t map_blocks = BlocksCeil(work.base->size() * sizeof(Extent));
  const uint64_t blocks = work.pages.size() + table_blocks + map_blocks;
  if (blocks == 0) {
    work.next.sum_pages = {};
    work.next.map = {};
    co_return absl::OkStatus();
  }
  const SlotRun run = slots_.TakeContiguous(blocks);
  if (run.blocks == 0) co_return FileIsFull();
  work.taken.push_back(run);
  uint64_t block = run.physical;
  for (const auto& [index, page] : work.pages) {
    if (work.page_blocks[index] != 0) work.replaced.push_back({work.page_blocks[index], 1});
    work.page_blocks[index] = block;
    COWL_CO_RETURN_IF_ERROR(co_await file_->Write(BlockOffsetBytes(block), page));
    ++block;
  }
  const std::span<const std::byte> table = std::as_bytes(std::span(work.page_blocks));
  absl::StatusOr<Section> table_section =
      co_await WriteSection(*file_, block, table, work.page_blocks.size());
  if (!table_section.ok()) co_return table_section.status();
  const std::span<const Extent> extents = work.base->extents();
  absl::StatusOr<Section> map_section =
      co_await WriteSection(*file_, block + table_blocks, std::as_bytes(extents), extents.size());
  if (!map_section.ok()) co_return map_section.status();
  work.next.sum_pages = *table_section;
  work.next.map = *map_section;
  for (const Section& old : {root_.map, root_.sum_pages}) {
    if (old.blocks != 0) work.replaced.push_back({old.block, old.blocks});
  }
  work.written_bytes = BlockOffsetBytes(blocks);
  co_return absl::OkStatus();
}

void Overlay::InstallCheckpoint(CheckpointWork& work) {
  map_.Install(work.base);
  sums_.Replace(std::move(work.page_blocks));
  checkpoint_bytes_ = work.written_bytes;
  // The durable superblock names none of this any more.
  for (const SlotRun& run : work.replaced) slots_.Return(run);
  for (const SlotRun& chunk : frozen_chunks_) slots_.Return(chunk);
}

}  // namespace cowl
