#include "mend_checksums.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "format/checksum_page.h"
#include "format/extent.h"
#include "format/journal_record.h"
#include "format/superblock.h"
#include "overlay/replay.h"

namespace cowl {
namespace {

// More than a file of a fuzzer's size holds, unless its links go in circles.
constexpr int kRecordsMax = 2000;
// Of the map: a damaged length must not cost a minute.
constexpr uint64_t kDataBlocksMax = 256;

class Mender {
 public:
  explicit Mender(std::span<std::byte> file) : file_(file) {}

  void Mend() {
    if (file_.size() < BlockOffsetBytes(Superblock::kFirstFreeBlock)) return;
    for (uint64_t slot = 0; slot < Superblock::kFirstFreeBlock; ++slot) {
      const std::span<std::byte> block = *Block(slot);
      if (!IsZero(block)) FinishSuperblock(block);
    }
    absl::StatusOr<Superblock> newest = ChooseSuperblock(Blocks(0, 2), "");
    if (!newest.ok()) return;
    MendJournal(*newest);
    BreakStrayRecords(*newest);
    MendSums(*newest);
    newest->map.check = Xxh3(Entries(newest->map, sizeof(Extent)));
    newest->sum_pages.check = Xxh3(Entries(newest->sum_pages, sizeof(uint64_t)));
    newest->files.check = Xxh3(Entries(newest->files, sizeof(Uuid)));
    EncodeSuperblock(*newest, *Block(Superblock::SlotOf(newest->generation)));
  }

 private:
  // As far as the file has them.
  std::span<std::byte> Blocks(uint64_t first, uint64_t count) const {
    const uint64_t begin = std::min<uint64_t>(BlockOffsetBytes(first), file_.size());
    return file_.subspan(begin, std::min<uint64_t>(BlockOffsetBytes(count), file_.size() - begin));
  }
  std::optional<std::span<std::byte>> Block(uint64_t block) const {
    const std::span<std::byte> bytes = Blocks(block, 1);
    return bytes.size() == kBlockBytes ? std::optional(bytes) : std::nullopt;
  }
  std::span<std::byte> Entries(const Section& section, size_t entry_bytes) const {
    const std::span<std::byte> bytes = Blocks(section.block, section.blocks);
    return bytes.first(std::min(bytes.size(), section.entries * entry_bytes));
  }

  // Every record gets its check. Where it stands in the chain is mended for all but an eighth of
  // those that do not fit, which the fuzzer chooses: what follows the end of the chain counts, too.
  void MendJournal(const Superblock& superblock) {
    JournalPosition position{{superblock.journal_block, superblock.journal_blocks},
                             0,
                             superblock.checkpoint_order,
                             superblock.journal_check};
    for (int i = 0; i < kRecordsMax; ++i) {
      const std::span<std::byte> chunk = Blocks(position.chunk.physical, position.chunk.blocks);
      if (position.offset_bytes == 0) chunks_.push_back(position.chunk);
      const std::span<std::byte> rest =
          chunk.subspan(std::min(chunk.size(), position.offset_bytes));
      size_t length = 0;
      if (!FinishRecord(rest, superblock.secret)) return;
      std::optional<JournalRecord> record = DecodeRecord(rest, superblock.secret, &length);
      if (!record) return;
      if (!FollowsOn(*record, position, superblock) && record->previous_check % 8 != 0) {
        record->order = position.last_order + 1;
        record->previous_check = position.last_check;
        record->incarnation = superblock.incarnation;
      }
      // The superblock is durable before the first record of an incarnation is written.
      record->incarnation = std::min(record->incarnation, superblock.incarnation);
      if (record->type == JournalRecord::Type::kWrite) MendRecordSums(*record);
      std::vector<std::byte> encoded;
      record->check = EncodeRecord(*record, superblock.secret, encoded);
      std::copy(encoded.begin(), encoded.end(), rest.begin());
      position = After(*record, position, length);
    }
  }

  // Free space may hold records of old journals, but none that knows more to be durable than there
  // is. A fuzzer copies such there, and a journal that comes to lie around them would seem damaged.
  void BreakStrayRecords(const Superblock& superblock) const {
    for (uint64_t number = 0; number < BlocksFloor(file_.size()); ++number) {
      const bool is_journal = std::ranges::any_of(chunks_, [number](const SlotRun& chunk) {
        return number >= chunk.physical && number - chunk.physical < chunk.blocks;
      });
      if (is_journal || IsZero(*Block(number))) continue;
      for (uint64_t at = 0; at < kBlockBytes; at += sizeof(uint64_t)) {
        const std::span<std::byte> from = file_.subspan(BlockOffsetBytes(number) + at);
        size_t length = 0;
        if (DecodeRecord(from, superblock.secret, &length)) from[0] ^= std::byte{1};
      }
    }
  }

  void MendRecordSums(JournalRecord& record) const {
    size_t at = 0;
    for (const SlotRun& run : record.runs) {
      for (uint64_t i = 0; i < run.blocks; ++i, ++at) {
        if (const auto block = Block(run.physical + i)) record.sums[at] = Xxh3(*block);
      }
    }
  }

  void MendSums(const Superblock& superblock) {
    const std::span<const std::byte> table = Entries(superblock.sum_pages, sizeof(uint64_t));
    const size_t pages = table.size() / sizeof(uint64_t);
    const auto page_at = [&](uint64_t index) -> std::optional<std::span<std::byte>> {
      if (index >= pages) return std::nullopt;
      const auto block = LoadLittle<uint64_t>(table.data() + index * sizeof(uint64_t));
      return block < Superblock::kFirstFreeBlock ? std::nullopt : Block(block);
    };
    uint64_t left = kDataBlocksMax;
    const std::span<const std::byte> map = Entries(superblock.map, sizeof(Extent));
    for (size_t at = 0; at + sizeof(Extent) <= map.size(); at += sizeof(Extent)) {
      const auto extent = LoadLittle<Extent>(map.data() + at);
      if (!extent.IsValid() || !extent.is_data() || extent.source() != 0) continue;
      for (uint64_t i = 0; i < extent.length() && left > 0; ++i, --left) {
        const uint64_t physical = extent.physical() + i;
        const auto page = page_at(SumPageOf(physical));
        const auto data = Block(physical);
        if (page && data) StoreSum(*page, physical, Xxh3(*data));
      }
    }
    for (uint64_t index = 0; index < pages; ++index) {
      if (const auto page = page_at(index)) FinishSumPage(*page, index);
    }
  }

  const std::span<std::byte> file_;
  std::vector<SlotRun> chunks_;  // of the journal
};

}  // namespace

void MendChecksums(std::span<std::byte> file) { Mender(file).Mend(); }

}  // namespace cowl
