// The journal's writing side. Order of things, for every record:
//   1. the data it names has been written (the caller awaited that);
//   2. the record is written, in the order of the queue; one write is in flight, it carries all
//   that waited;
//   3. the map changes, in the same order; the slots that were replaced are retired;
//   4. the answer goes out.
// So data and record are with the kernel before an answer, and no two journal writes can pass each
// other.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "overlay/overlay_internal.h"

namespace cowl {
namespace {

// Room in the last chunk that only records which free space may use, when no further chunk can be
// had.
constexpr uint64_t kReserveBytes = 16 * kKiB;

// No chunk is smaller than this: the largest record, and a link must fit into it, and a sector for
// the copy of the link.
constexpr uint64_t kChunkBlocksLeast = 4;
static_assert(JournalRecord::kBytesMax + JournalRecord::kLinkBytes + kSectorBytes + 128 <
              kChunkBlocksLeast * kBlockBytes);

}  // namespace

class Overlay::AppendAwaiter {
 public:
  AppendAwaiter(Overlay& overlay, Pending& pending) : overlay_(overlay), pending_(pending) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    pending_.waiter = waiter;
    overlay_.queue_.push_back(&pending_);
    overlay_.WakePump();  // may resume `waiter`: nothing of this object is touched afterwards
  }
  void await_resume() const noexcept {}

 private:
  Overlay& overlay_;
  Pending& pending_;
};

Task<absl::Status> Overlay::Append(JournalRecord record) {
  Pending pending{std::move(record), absl::OkStatus(), {}};
  AppendAwaiter appended(*this, pending);
  co_await appended;
  co_return pending.status;
}

void Overlay::WakePump() {
  if (pump_running_) return;
  pump_running_ = true;
  // Not at once: what else arrives in this turn of the loop goes into the same write.
  loop_.Post([this] { RunPump(this); });
}

internal::Detached Overlay::RunPump(Overlay* overlay) {
  const BackgroundWork work(overlay->background_, overlay->background_done_);
  co_await overlay->Pump();
}

Task<void> Overlay::Pump() {
  while (!queue_.empty() || freeze_waiter_) {
    if (freeze_waiter_) {
      freeze_status_ = co_await FreezeForCheckpoint();
      std::exchange(freeze_waiter_, {}).resume();
      continue;
    }
    std::vector<Pending*> batch;
    batch.swap(queue_);
    size_t done = 0;
    absl::Status status = failure_;
    if (status.ok()) status = co_await PrepareToAppend();
    while (done < batch.size() && status.ok()) {
      const std::span<Pending* const> rest = std::span(batch).subspan(done);
      size_t written = 0;
      status = co_await WriteBatch(rest, &written);
      for (Pending* pending : rest.first(written)) FinishRecord(*pending);
      done += written;
      // No room for this record; one that frees space may still fit behind it.
      if (absl::IsResourceExhausted(status) && failure_.ok()) {
        batch[done++]->status = std::exchange(status, absl::OkStatus());
      }
    }
    for (size_t i = done; i < batch.size(); ++i) batch[i]->status = status;
    for (Pending* pending : batch) pending->waiter.resume();
    MaybeCheckpoint();
  }
  pump_running_ = false;
}

// Writes as many records as the chunk holds; *written of them are in the journal when it returns,
// also on an error.
Task<absl::Status> Overlay::WriteBatch(std::span<Pending* const> batch, size_t* written) {
  // The last sector is for the copy of the link alone: no damage of one sector takes both.
  const uint64_t chunk_bytes = BlockOffsetBytes(position_.chunk.blocks) - kSectorBytes;
  if (position_.offset_bytes > chunk_bytes / 2 && !spare_chunk_) co_await TakeSpareChunk();
  const uint64_t keep_free = spare_chunk_ ? 0 : kReserveBytes;
  std::vector<std::byte> bytes;
  JournalPosition position = position_;
  size_t count = 0;
  for (Pending* pending : batch) {
    const bool frees_space = pending->record.type != JournalRecord::Type::kWrite;
    const uint64_t needed =
        EncodedBytes(pending->record) + JournalRecord::kLinkBytes + (frees_space ? 0 : keep_free);
    if (position.offset_bytes + needed > chunk_bytes) break;
    EncodeNext(pending->record, bytes, position);
    ++count;
  }
  if (count == 0) co_return co_await SwitchChunk();
  const absl::Status status = co_await WriteJournal(bytes);
  if (!status.ok()) co_return status;
  position_ = position;
  *written = count;
  co_return absl::OkStatus();
}

void Overlay::EncodeNext(JournalRecord& record, std::vector<std::byte>& out,
                         JournalPosition& position) {
  record.order = position.last_order + 1;
  record.previous_check = position.last_check;
  record.durable_order = durable_order_;
  record.incarnation = root_.incarnation;
  const size_t before = out.size();
  record.check = EncodeRecord(record, root_.secret, out);
  position.last_order = record.order;
  position.last_check = record.check;
  position.offset_bytes += out.size() - before;
}

// Appends at position_. A full disk leaves the journal as it was: the next write goes to the same
// place.
Task<absl::Status> Overlay::WriteJournal(std::span<const std::byte> bytes) {
  const uint64_t offset = BlockOffsetBytes(position_.chunk.physical) + position_.offset_bytes;
  const absl::Status status = co_await file_->Write(offset, bytes);
  if (!status.ok() && !absl::IsResourceExhausted(status)) Fail(status);
  if (status.ok()) journal_bytes_ += bytes.size();
  StartEpochTimer();
  co_return status;
}

void Overlay::FinishRecord(Pending& pending) {
  sealed_ = pending.record.type == JournalRecord::Type::kSeal;
  claimed_order_ = pending.record.durable_order;
  if (pending.record.type != JournalRecord::Type::kMark) last_change_order_ = pending.record.order;
  std::vector<SlotRun> replaced;
  map_.Apply(pending.record, &replaced);
  for (const SlotRun& run : replaced) slots_.Retire(run);
  if (pending.record.type == JournalRecord::Type::kZero && !replaced.empty())
    discard_order_ = pending.record.order;
}

// Links to a new chunk. The link is a record like any other, so a chunk belongs to the journal
// exactly when the chain says so; what stood in it before can not follow, since every record names
// its order and its predecessor's check. A copy of it at the very end of the chunk leads on to what
// came later when the link is damaged (CheckEndIsTail).
Task<absl::Status> Overlay::SwitchChunk() {
  if (!spare_chunk_) co_await TakeSpareChunk();
  if (!spare_chunk_) COWL_CO_RETURN_IF_ERROR(co_await FreeUpSpareChunk());
  if (!spare_chunk_) {
    co_return OutOfSpace(absl::StrCat(
        file_->path(), ": no room for its journal: free space on the disk, or discard"));
  }
  JournalRecord link;
  link.type = JournalRecord::Type::kLink;
  link.chunk = *spare_chunk_;
  std::vector<std::byte> bytes;
  JournalPosition position = position_;
  EncodeNext(link, bytes, position);
  const uint64_t chunk_end = BlockOffsetBytes(position_.chunk.physical + position_.chunk.blocks);
  COWL_CO_RETURN_IF_ERROR(co_await file_->Write(chunk_end - bytes.size(), bytes));
  COWL_CO_RETURN_IF_ERROR(co_await WriteJournal(bytes));
  position.chunk = link.chunk;
  position.offset_bytes = 0;
  position_ = position;
  chunks_.push_back(link.chunk);
  spare_chunk_.reset();
  co_return absl::OkStatus();
}

// Sets spare_chunk_ when the disk has room: twice the present chunk, or as much as there is.
Task<void> Overlay::TakeSpareChunk() {
  uint64_t blocks =
      std::clamp(2 * position_.chunk.blocks, kChunkBlocksMin, JournalRecord::kChunkBlocksMax);
  for (; blocks >= kChunkBlocksLeast; blocks /= 4) {
    const SlotRun chunk = slots_.TakeContiguous(blocks);
    if (chunk.blocks == 0) continue;
    const absl::Status status =
        co_await file_->Allocate(BlockOffsetBytes(chunk.physical), BlockOffsetBytes(chunk.blocks));
    if (status.ok()) {
      spare_chunk_ = chunk;
      co_return;
    }
    co_await ReturnRefused(chunk);
  }
}

// The disk is full: what was given up is freed by a sync, and handed back, since only the file
// system can make one run of it.
Task<absl::Status> Overlay::FreeUpSpareChunk() {
  if (slots_.pinned_blocks() > 0 || syncing_) COWL_CO_RETURN_IF_ERROR(co_await SyncAfterNow());
  co_await PunchFree();
  co_await TakeSpareChunk();
  co_return absl::OkStatus();
}

Task<absl::Status> Overlay::PrepareToAppend() {
  while (preparing_) co_await prepared_.Wait();
  COWL_CO_RETURN_IF_ERROR(failure_);
  if (appendable_) co_return absl::OkStatus();
  preparing_ = true;
  const absl::Status status = co_await RaiseIncarnation();
  preparing_ = false;
  prepared_.WakeAll();
  co_return status;
}

// The incarnation is raised and durable before the first append of this life, so that a tail which
// recovery gave up can never be taken for a continuation. Everything up to resume_order is durable
// before the superblock says so: a record of the page cache that a machine's crash takes back must
// not make room for an older one in its place.
Task<absl::Status> Overlay::RaiseIncarnation() {
  if (durable_order_ < position_.last_order) COWL_CO_RETURN_IF_ERROR(co_await SyncAfterNow());
  Superblock next = root_;
  next.incarnation = root_.incarnation + 1;
  next.clean = false;
  next.resume_order = position_.last_order;
  const bool is_first = position_.chunk.blocks == 0;
  if (is_first) {
    co_await TakeSpareChunk();
    if (!spare_chunk_)
      co_return OutOfSpace(
          absl::StrCat(file_->path(), ": no room for its journal: free space on the disk"));
    next.journal_block = spare_chunk_->physical;
    next.journal_blocks = spare_chunk_->blocks;
    next.journal_check = position_.last_check;
  }
  COWL_CO_RETURN_IF_ERROR(co_await WriteRoot(next));
  // Only now: nothing may be appended to a chunk that no superblock names.
  if (is_first) {
    position_.chunk = *std::exchange(spare_chunk_, std::nullopt);
    position_.offset_bytes = 0;
    chunks_ = {position_.chunk};
  }
  appendable_ = true;
  co_return absl::OkStatus();
}

Task<absl::StatusOr<SealMark>> Overlay::Seal(Uuid successor) {
  JournalRecord record;
  record.type = JournalRecord::Type::kSeal;
  record.peer = successor;
  sealing_ = true;
  const absl::Status status = co_await Append(std::move(record));
  sealing_ = false;
  COWL_CO_RETURN_IF_ERROR(status);
  co_return SealMark{root_.id, position_.last_order, position_.last_check};
}

Task<absl::Status> Overlay::Continue(SealMark mark) {
  JournalRecord record;
  record.type = JournalRecord::Type::kContinue;
  record.peer = mark.overlay;
  record.peer_order = mark.order;
  record.peer_check = mark.check;
  co_return co_await Append(std::move(record));
}

}  // namespace cowl
