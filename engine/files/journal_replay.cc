#include "files/journal_replay.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "files/journal_format.h"

namespace cowl {
namespace {

// Sequence numbers wrap around.
bool IsAtLeast(uint32_t sequence, uint32_t other) {
  return static_cast<int32_t>(sequence - other) >= 0;
}

class Replay {
 public:
  explicit Replay(const JournalSource& source) : source_(source), block_(source.block_bytes) {}

  absl::StatusOr<JournalCopies> Run();

 private:
  // A copy that a transaction holds.
  struct Copy {
    uint64_t block;
    JournalCopy where;
    uint32_t sequence;
  };
  enum class Step { kGoOn, kEnd };

  absl::Status ReadNext();
  void Advance() { at_ = at_ + 1 == super_.length_blocks ? super_.first : at_ + 1; }
  absl::Status ReadLog();
  absl::StatusOr<Step> TakeBlock();
  absl::StatusOr<Step> TakeDescriptor();
  Step TakeRevocation();
  absl::StatusOr<Step> TakeCommit();

  const JournalSource& source_;
  JournalSuperblock super_;
  std::vector<std::byte> block_;
  std::vector<std::byte> copy_ = std::vector<std::byte>(block_.size());
  uint32_t at_ = 0;                // the next block of the log
  uint32_t left_ = 0;              // how many may still be read
  uint32_t sequence_ = 0;          // of the transaction being read
  uint32_t crc_ = ~0U;             // of it (checksums v1)
  uint64_t damaged_at_ = 0;        // the first block in it that fails its checksum; 0: none
  std::vector<Copy> open_copies_;  // of it
  std::vector<uint64_t> open_revocations_;
  std::vector<Copy> copies_;                            // of committed ones, in order
  std::unordered_map<uint64_t, uint32_t> revocations_;  // the last that revoked a block
};

absl::Status Replay::ReadNext() {
  COWL_RETURN_IF_ERROR(source_.read(at_, block_));
  Advance();
  --left_;
  return absl::OkStatus();
}

absl::StatusOr<Replay::Step> Replay::TakeDescriptor() {
  if (!IsTailIntact(super_, block_)) return Step::kEnd;
  crc_ = Crc32BigEndian(crc_, block_);
  for (const JournalTag& tag : DecodeJournalTags(super_, block_)) {
    if (left_ == 0) return Step::kEnd;
    const uint32_t where = at_;
    COWL_RETURN_IF_ERROR(source_.read(where, copy_));
    Advance();
    --left_;
    crc_ = Crc32BigEndian(crc_, copy_);
    // Whether that matters shows when the transaction turns out to be committed.
    const bool is_intact =
        tag.block < source_.file_system_blocks && IsCopyIntact(super_, tag, sequence_, copy_);
    if (!is_intact && damaged_at_ == 0) damaged_at_ = where;
    open_copies_.push_back({tag.block, {where, tag.is_escaped}, sequence_});
  }
  return Step::kGoOn;
}

Replay::Step Replay::TakeRevocation() {
  if (!IsTailIntact(super_, block_)) return Step::kEnd;
  const std::vector<uint64_t> blocks = DecodeRevocation(super_, block_);
  open_revocations_.insert(open_revocations_.end(), blocks.begin(), blocks.end());
  return Step::kGoOn;
}

absl::StatusOr<Replay::Step> Replay::TakeCommit() {
  if (!IsCommitIntact(super_, block_) || !IsTransactionIntact(super_, block_, crc_))
    return Step::kEnd;
  if (damaged_at_ != 0) {
    return DataLoss(absl::StrCat("block ", damaged_at_, " of its journal is damaged, in ",
                                 "transaction ", sequence_, ", which was committed"));
  }
  copies_.insert(copies_.end(), open_copies_.begin(), open_copies_.end());
  for (const uint64_t block : open_revocations_) revocations_[block] = sequence_;
  open_copies_.clear();
  open_revocations_.clear();
  crc_ = ~0U;
  ++sequence_;
  return Step::kGoOn;
}

absl::StatusOr<Replay::Step> Replay::TakeBlock() {
  COWL_RETURN_IF_ERROR(ReadNext());
  const auto header = DecodeJournalHeader(block_);
  if (!header.has_value() || header->sequence != sequence_) return Step::kEnd;
  switch (static_cast<JournalBlockKind>(header->kind)) {
    case JournalBlockKind::kDescriptor:
      return TakeDescriptor();
    case JournalBlockKind::kRevocation:
      return TakeRevocation();
    case JournalBlockKind::kCommit:
      return TakeCommit();
  }
  return Step::kEnd;
}

absl::Status Replay::ReadLog() {
  at_ = super_.start;
  left_ = super_.length_blocks - super_.first;
  sequence_ = super_.sequence;
  while (left_ > 0) {
    COWL_ASSIGN_OR_RETURN(const Step step, TakeBlock());
    if (step == Step::kEnd) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<JournalCopies> Replay::Run() {
  COWL_RETURN_IF_ERROR(source_.read(0, block_));
  COWL_ASSIGN_OR_RETURN(super_, DecodeJournalSuperblock(block_, source_.block_count));
  JournalCopies result;
  if (super_.start == 0) return result;
  COWL_RETURN_IF_ERROR(ReadLog());
  for (const Copy& copy : copies_) {
    const auto revoked = revocations_.find(copy.block);
    // Revoked by the same transaction or a later one.
    if (revoked != revocations_.end() && IsAtLeast(revoked->second, copy.sequence)) continue;
    result[copy.block] = copy.where;
  }
  return result;
}

}  // namespace

absl::StatusOr<JournalCopies> ReplayJournal(const JournalSource& source) {
  return Replay(source).Run();
}

}  // namespace cowl
