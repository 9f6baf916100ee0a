#include "overlay/overlay.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"
#include "layer/section_writer.h"
#include "overlay/overlay_internal.h"

namespace cowl {
namespace {

using namespace std::chrono_literals;

// An epoch ends by itself after this long, so that what was written is durable soon even where
// nobody flushes.
constexpr auto kEpochAge = 1s;

// What a busy time writes starts on its way to the disk in portions of this: a flush finds most of
// it there.
constexpr uint64_t kWritebackBlocks = 8 * kMiB / kBlockBytes;

// Fewer pinned slots than this never end an epoch.
constexpr uint64_t kPinnedBlocksMin = 32 * kMiB / kBlockBytes;

// Finds blocks that two owners claim, and turns what nobody claims into free runs.
class UsedBlocks {
 public:
  void Add(uint64_t begin, uint64_t end) {
    if (begin >= end) return;
    ranges_.emplace_back(begin, end);
    end_ = std::max(end_, end);
  }
  // The first block that is claimed twice, or nullopt.
  std::optional<uint64_t> Sort() {
    std::sort(ranges_.begin(), ranges_.end());
    for (size_t i = 1; i < ranges_.size(); ++i) {
      if (ranges_[i].first < ranges_[i - 1].second) return ranges_[i].first;
    }
    return std::nullopt;
  }
  template <typename Visit>
  void ForEachGap(Visit&& visit) const {
    uint64_t from = 0;
    for (const auto& [begin, end] : ranges_) {
      if (from < begin) visit(SlotRun{from, begin - from});
      from = end;
    }
  }
  uint64_t end() const { return end_; }

 private:
  std::vector<std::pair<uint64_t, uint64_t>> ranges_;
  uint64_t end_ = 0;
};

}  // namespace

Overlay::Overlay(Loop& loop, std::unique_ptr<File> file, const Superblock& root, OverlayMap map,
                 std::vector<uint64_t> page_blocks)
    : loop_(loop),
      file_(std::move(file)),
      root_(root),
      map_(std::move(map)),
      sums_(*file_, std::move(page_blocks)) {}

Overlay::~Overlay() { *alive_ = false; }

Task<absl::StatusOr<std::unique_ptr<Overlay>>> Overlay::Create(Loop& loop, Storage& storage,
                                                               NewOptions options) {
  absl::StatusOr<std::unique_ptr<File>> file =
      storage.Open(DataFileName(options.id), OpenMode::kCreate);
  if (!file.ok()) co_return file.status();
  Superblock root;
  root.kind = DataFileKind::kOverlay;
  root.id = options.id;
  root.parent = options.parent;
  root.size_bytes = options.size_bytes;
  root.secret = RandomSecret();
  root.created_ns = NowNs();
  std::unique_ptr<Overlay> overlay(new Overlay(loop, *std::move(file), root, {}, {}));
  overlay->root_.clean = true;
  // Room for both superblocks from the start: a full disk must not keep one from being written.
  COWL_CO_RETURN_IF_ERROR(
      co_await overlay->file_->Allocate(0, BlockOffsetBytes(Superblock::kFirstFreeBlock)));
  COWL_CO_RETURN_IF_ERROR(co_await WriteFirstSuperblock(*overlay->file_, &overlay->root_));
  COWL_CO_RETURN_IF_ERROR(co_await overlay->PrepareToAppend());  // syncs them, too
  co_return overlay;
}

Task<absl::StatusOr<std::unique_ptr<Overlay>>> Overlay::Open(Loop& loop, Storage& storage, Uuid id,
                                                             OpenMode mode,
                                                             bool journal_is_durable) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(DataFileName(id), mode);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> root = co_await ReadSuperblock(**file);
  if (!root.ok()) co_return root.status();
  if (root->kind != DataFileKind::kOverlay || root->id != id || root->files.entries != 0) {
    co_return DataLoss(absl::StrCat((*file)->path(), ": is not the overlay ", id.ToString()));
  }
  absl::StatusOr<FileMap> map = co_await ReadFileMap(**file, *root);
  if (!map.ok()) co_return map.status();
  absl::StatusOr<std::vector<uint64_t>> pages = co_await ReadPageTable(**file, *root);
  if (!pages.ok()) co_return pages.status();
  const uint64_t stored_blocks = map->extents.DataBlocks();
  OverlayMap overlay_map(std::move(map->extents), stored_blocks);
  std::unique_ptr<Overlay> overlay(
      new Overlay(loop, *std::move(file), *root, std::move(overlay_map), *std::move(pages)));
  absl::StatusOr<ReplayedJournal> replayed =
      co_await ReplayJournal(*overlay->file_, *root, journal_is_durable, overlay->map_);
  if (!replayed.ok()) co_return replayed.status();
  overlay->AdoptReplayed(*replayed);
  COWL_CO_RETURN_IF_ERROR(overlay->RebuildSlots(replayed->pinned, mode != OpenMode::kRead));
  co_return overlay;
}

void Overlay::AdoptReplayed(const ReplayedJournal& replayed) {
  position_ = replayed.position;
  chunks_ = replayed.chunks;
  // What was replayed counts: a server that is killed again and again must not let it grow.
  for (const SlotRun& chunk : chunks_) journal_bytes_ += BlockOffsetBytes(chunk.blocks);
  if (!chunks_.empty()) {
    journal_bytes_ -= BlockOffsetBytes(chunks_.back().blocks);
    journal_bytes_ += position_.offset_bytes;
  }
  durable_order_ = replayed.durable_order;
  claimed_order_ = replayed.durable_order;
  last_change_order_ = position_.last_order;
  recovered_slots_ = replayed.tail_slots;
  recovered_root_ = true;
  // The journal above D may be anywhere in the chunks: all of it is rewritten, it is small.
  if (position_.last_order > durable_order_) recovered_journal_ = {chunks_, position_.offset_bytes};
  facts_.has_checkpoint = root_.checkpoint_order > 0;
  facts_.has_writes = replayed.has_writes;
  if (replayed.continues) {
    facts_.continues = SealMark{replayed.continues->peer, replayed.continues->peer_order,
                                replayed.continues->peer_check};
    facts_.continuation_is_durable = replayed.continues->order <= durable_order_;
  }
  if (!replayed.seal) return;
  facts_.seal = SealMark{root_.id, replayed.seal->order, replayed.seal->check};
  facts_.seal_successor = replayed.seal->peer;
}

absl::Status Overlay::RebuildSlots(const std::vector<SlotRun>& pinned, bool is_writable) {
  UsedBlocks used;
  for (const auto& [begin, end] : MetadataRanges(RootWithoutJournal(root_), sums_.page_blocks()))
    used.Add(begin, end);
  for (const SlotRun& run : pinned) used.Add(run.physical, run.physical + run.blocks);
  map_.VisitRange(0, Extent::kStartLimit, [&](const Segment& segment) {
    if (segment.kind == Segment::Kind::kData)
      used.Add(segment.physical, segment.physical + segment.length);
  });
  absl::StatusOr<uint64_t> size = file_->SizeBytes();
  if (!size.ok()) return size.status();
  // All this was written before it was named. What is still there can be read. But nothing may be
  // written: the free space between the end and the last block that is named might be terabytes.
  // Of a chunk a crash may have taken the end that held no records.
  uint64_t named_end = used.end();
  for (const SlotRun& chunk : chunks_) {
    used.Add(chunk.physical, chunk.physical + chunk.blocks);
    named_end = std::max(named_end, chunk.physical + 1);
  }
  if (is_writable && named_end > BlocksCeil(*size)) {
    return DataLoss(absl::StrCat(file_->path(), ": block ", named_end - 1,
                                 " lies beyond the end of ",
                                 "the file: it was truncated, and can only be read"));
  }
  if (const std::optional<uint64_t> twice = used.Sort()) {
    return DataLoss(absl::StrCat(file_->path(), ": block ", *twice,
                                 " of the file is claimed twice: map and journal disagree"));
  }
  slots_ = SlotAllocator(std::max(used.end(), BlocksCeil(*size)));
  const auto add_free = [&](const SlotRun& run) {
    // Closing in order punched what was free.
    if (root_.clean) {
      slots_.AddHollow(run);
    } else {
      slots_.AddFree(run);
    }
  };
  used.ForEachGap(add_free);
  if (used.end() < slots_.tail()) add_free({used.end(), slots_.tail() - used.end()});
  for (const SlotRun& run : pinned) slots_.Pin(run);
  return absl::OkStatus();
}

Task<absl::Status> Overlay::Write(uint64_t block, std::span<const std::byte> data) {
  // What a recovery found may be in the page cache only: nothing is written into free slots before
  // it is durable.
  COWL_CO_RETURN_IF_ERROR(co_await PrepareToAppend());
  COWL_CO_RETURN_IF_ERROR(co_await Admit());
  JournalRecord record;
  record.type = JournalRecord::Type::kWrite;
  record.start = block;
  record.blocks = data.size() / kBlockBytes;
  for (uint64_t i = 0; i < record.blocks; ++i)
    record.sums.push_back(Xxh3(data.subspan(i * kBlockBytes, kBlockBytes)));
  COWL_CO_RETURN_IF_ERROR(co_await Place(data, &record.runs));
  written_blocks_ += record.blocks;
  writeback_blocks_ += record.blocks;
  if (writeback_blocks_ >= kWritebackBlocks) {
    writeback_blocks_ = 0;
    file_->StartWriteback();
  }
  const std::vector<SlotRun> runs = record.runs;
  const absl::Status status = co_await Append(std::move(record));
  // A record that did not get into the journal gave its slots to nobody.
  if (!status.ok() && failure_.ok()) {
    for (const SlotRun& run : runs) slots_.Return(run);
  }
  co_return status;
}

Task<absl::Status> Overlay::Zero(uint64_t block, uint64_t blocks) {
  COWL_CO_RETURN_IF_ERROR(failure_);
  JournalRecord record;
  record.type = JournalRecord::Type::kZero;
  record.start = block;
  record.blocks = blocks;
  co_return co_await Append(std::move(record));
}

// Two epochs at most are open: one that is being synced, and one that takes writes.
Task<absl::Status> Overlay::Admit() {
  const uint64_t pinned_max = std::max(kPinnedBlocksMin, map_.stored_blocks() / 32);
  while (failure_.ok() &&
         (slots_.pinned_blocks() > pinned_max || written_blocks_ > kUnsyncedBlocksMax)) {
    if (syncing_) {
      co_await sync_done_.Wait();
    } else {
      RunBackgroundSync(this);  // begins a new epoch: both counts are zero then
    }
  }
  co_return failure_;
}

// Puts the data into free slots, long data into long runs of them. On a full disk: into any; and
// where there are not enough, makes what was given up durable, which frees it, and tries once more.
Task<absl::Status> Overlay::Place(std::span<const std::byte> data, std::vector<SlotRun>* runs) {
  absl::Status status = co_await TryPlace(data, /*in_long_runs=*/true, runs);
  if (!absl::IsResourceExhausted(status)) co_return status;
  status = co_await TryPlace(data, /*in_long_runs=*/false, runs);
  if (!absl::IsResourceExhausted(status)) co_return status;
  while (syncing_) co_await sync_done_.Wait();
  COWL_CO_RETURN_IF_ERROR(co_await SyncOnce());
  co_return co_await TryPlace(data, /*in_long_runs=*/false, runs);
}

Task<absl::Status> Overlay::TryPlace(std::span<const std::byte> data, bool in_long_runs,
                                     std::vector<SlotRun>* runs) {
  runs->clear();
  absl::Status status;
  while (!data.empty() && status.ok()) {
    const uint64_t blocks = data.size() / kBlockBytes;
    const SlotRun run = in_long_runs ? slots_.TakeLong(blocks) : slots_.Take(blocks);
    runs->push_back(run);
    if (run.blocks == 0) {
      status = FileIsFull();
      break;
    }
    const std::span<const std::byte> part = data.first(BlockOffsetBytes(run.blocks));
    data = data.subspan(part.size());
    status = co_await file_->Write(BlockOffsetBytes(run.physical), part);
  }
  if (status.ok()) co_return status;
  if (runs->back().blocks != 0) co_await ReturnRefused(runs->back());
  runs->pop_back();
  for (const SlotRun& run : *runs) slots_.Return(run);
  runs->clear();
  co_return status;
}

absl::Status Overlay::FileIsFull() const {
  return OutOfSpace(absl::StrCat(file_->path(), ": is as long as a data file may be; discard"));
}

// A run that the disk had no room for has no space behind it, or only in parts: none of it may pass
// for room that is there already.
Task<void> Overlay::ReturnRefused(SlotRun run) {
  const absl::Status punched =
      co_await file_->PunchHole(BlockOffsetBytes(run.physical), BlockOffsetBytes(run.blocks));
  if (punched.ok()) {
    slots_.ReturnHollow(run);
  } else {
    slots_.Return(run);
  }
}

Task<absl::Status> Overlay::ReadSlots(uint64_t physical, std::span<std::byte> into) {
  const size_t blocks = into.size() / kBlockBytes;
  std::vector<uint64_t> sums(blocks);
  for (size_t i = 0; i < blocks;) {
    if (const std::optional<uint64_t> sum = map_.RecentSum(physical + i)) {
      sums[i++] = *sum;
      continue;
    }
    size_t end = i + 1;
    while (end < blocks && !map_.RecentSum(physical + end)) ++end;
    const std::span<uint64_t> missing(sums.data() + i, end - i);
    COWL_CO_RETURN_IF_ERROR(co_await sums_.Load(physical + i, missing));
    i = end;
  }
  COWL_CO_RETURN_IF_ERROR(co_await file_->Read(BlockOffsetBytes(physical), into));
  co_return VerifyBlocks(into, sums, physical, file_->path());
}

ExtentArray Overlay::FlatMap() const {
  ExtentArrayBuilder builder;
  map_.VisitRange(0, Extent::kStartLimit, [&](const Segment& segment) { builder.Add(segment); });
  return builder.Build();
}

void Overlay::StartEpochTimer() {
  if (epoch_timer_ || closing_) return;
  epoch_timer_ = true;
  RunEpochTimer(this, alive_);
}

// After the last flush of a busy time no record says how much is durable; without that a flipped
// bit in the last epoch would look like a crash's doing, and be undone with everything after it. So
// what is at rest ends with a mark that says so.
bool Overlay::NeedsMark() const {
  return !sealed_ && !sealing_ && last_change_order_ > std::max(claimed_order_, root_.resume_order);
}

internal::Detached Overlay::RunEpochTimer(Overlay* overlay, std::shared_ptr<bool> alive) {
  while (true) {
    co_await Sleep(overlay->loop_, kEpochAge);
    if (!*alive) co_return;
    if (overlay->closing_ || !overlay->failure_.ok()) break;
    if (overlay->position_.last_order > overlay->durable_order_) {
      if (!overlay->syncing_) RunBackgroundSync(overlay);
    } else if (overlay->NeedsMark()) {
      RunMark(overlay);
    } else {
      break;
    }
  }
  overlay->epoch_timer_ = false;
}

internal::Detached Overlay::RunMark(Overlay* overlay) {
  const BackgroundWork work(overlay->background_, overlay->background_done_);
  // Two: one shares a sector with the last record before it at most, so one damaged sector never
  // takes a record and the proof of it.
  for (int i = 0; i < 2 && !overlay->sealed_ && !overlay->sealing_; ++i) {
    JournalRecord mark;
    mark.type = JournalRecord::Type::kMark;
    // Where it finds no room, nothing is lost but what it would have said.
    const absl::Status status = co_await overlay->Append(std::move(mark));
    static_cast<void>(status);
  }
}

Task<void> Overlay::EndBackground() {
  closing_ = true;
  while (background_ > 0) co_await background_done_.Wait();
  while (checkpointing_) co_await checkpoint_done_.Wait();
}

Task<absl::Status> Overlay::Close() {
  co_await EndBackground();
  if (!appendable_ || !failure_.ok()) co_return failure_;
  Superblock next = root_;
  next.clean = true;
  COWL_CO_RETURN_IF_ERROR(co_await CheckpointAs(CheckpointKind::kClean, next));
  co_await PunchFree();
  co_return absl::OkStatus();
}

}  // namespace cowl
