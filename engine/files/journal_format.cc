#include "files/journal_format.h"

#include <ext2fs/ext2fs.h>

#include <array>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "files/journal_replay.h"

namespace cowl {
namespace {

constexpr uint32_t kMagic = 0xC03B3998;
constexpr uint32_t kHeaderBytes = 12;
constexpr uint32_t kSuperblockV2 = 4;
constexpr size_t kSuperblockBytes = 1024;
constexpr size_t kSuperblockChecksumAt = 0xFC;
constexpr size_t kUuidBytes = 16;
constexpr size_t kTailBytes = 4;
constexpr uint8_t kCrc32c = 4;

constexpr uint32_t kCompatChecksum = 1;
constexpr uint32_t kIncompatRevoke = 1;
constexpr uint32_t kIncompat64bit = 2;
constexpr uint32_t kIncompatAsyncCommit = 4;
constexpr uint32_t kIncompatChecksumV2 = 8;
constexpr uint32_t kIncompatChecksumV3 = 16;
constexpr uint32_t kIncompatFastCommit = 32;
constexpr uint32_t kIncompatKnown = kIncompatRevoke | kIncompat64bit | kIncompatAsyncCommit |
                                    kIncompatChecksumV2 | kIncompatChecksumV3;

constexpr uint32_t kTagEscaped = 1;
constexpr uint32_t kTagSameUuid = 2;
constexpr uint32_t kTagLast = 8;

constexpr size_t kCommitChecksumTypeAt = 0x0C;
constexpr size_t kCommitChecksumAt = 0x10;
constexpr uint8_t kCommitCrc32 = 1;

uint32_t Load32(std::span<const std::byte> block, size_t at) {
  return LoadBig<uint32_t>(block.data() + at);
}

uint32_t Crc32c(uint32_t crc, std::span<const std::byte> bytes) {
  return ext2fs_crc32c_le(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

// The checksum of `block` with zeros where the checksum itself stands.
uint32_t Crc32cWithout(uint32_t crc, std::span<const std::byte> block, size_t checksum_at) {
  constexpr std::array<std::byte, 4> kZeros{};
  crc = Crc32c(crc, block.first(checksum_at));
  crc = Crc32c(crc, kZeros);
  return Crc32c(crc, block.subspan(checksum_at + kZeros.size()));
}

absl::Status CheckFeatures(uint32_t incompat) {
  if ((incompat & kIncompatFastCommit) != 0) {
    return Unimplemented(
        "its journal may hold fast commits, which cannot be read here: mount it and unmount it "
        "cleanly, then try again");
  }
  if ((incompat & ~kIncompatKnown) == 0) return absl::OkStatus();
  return Unimplemented(absl::StrCat("its journal has features that are not known here (",
                                    absl::Hex(incompat & ~kIncompatKnown),
                                    "): mount it and unmount it cleanly, then try again"));
}

// Bytes of a tag, without the UUID that may follow. Checksums v2 lengthen it by two that no field
// uses.
size_t TagBytes(const JournalSuperblock& super) {
  if (super.has_checksums_v3) return 16;
  return 8 + (super.has_checksums_v2 ? 2 : 0) + (super.has_64bit ? 4 : 0);
}

}  // namespace

std::optional<JournalHeader> DecodeJournalHeader(std::span<const std::byte> block) {
  if (Load32(block, 0) != kMagic) return std::nullopt;
  return JournalHeader{Load32(block, 4), Load32(block, 8)};
}

absl::StatusOr<JournalSuperblock> DecodeJournalSuperblock(std::span<const std::byte> block,
                                                          uint32_t block_count) {
  const auto header = DecodeJournalHeader(block);
  if (!header.has_value()) return DataLoss("its journal has no superblock");
  JournalSuperblock super;
  super.length_blocks = Load32(block, 0x10);
  super.first = Load32(block, 0x14);
  super.sequence = Load32(block, 0x18);
  super.start = Load32(block, 0x1C);
  if (header->kind == kSuperblockV2) {
    const uint32_t incompat = Load32(block, 0x28);
    COWL_RETURN_IF_ERROR(CheckFeatures(incompat));
    super.has_64bit = (incompat & kIncompat64bit) != 0;
    super.has_checksums_v2 = (incompat & kIncompatChecksumV2) != 0;
    super.has_checksums_v3 = (incompat & kIncompatChecksumV3) != 0;
    super.has_checksums_v1 = !super.has_checksums() && (Load32(block, 0x24) & kCompatChecksum) != 0;
    super.seed = Crc32c(~0U, block.subspan(0x30, kUuidBytes));
  }
  if (super.has_checksums()) {
    const auto whole = block.first(kSuperblockBytes);
    if (std::to_integer<uint8_t>(block[0x50]) != kCrc32c ||
        Crc32cWithout(~0U, whole, kSuperblockChecksumAt) != Load32(block, kSuperblockChecksumAt)) {
      return DataLoss("the superblock of its journal fails its checksum");
    }
  }
  const bool makes_sense =
      Load32(block, 0x0C) == block.size() && super.first > 0 && super.first < super.length_blocks &&
      super.length_blocks <= block_count && super.start < super.length_blocks &&
      (super.start == 0 || super.start >= super.first) &&
      !(super.has_checksums_v2 && super.has_checksums_v3);
  if (!makes_sense) return DataLoss("the superblock of its journal makes no sense");
  return super;
}

std::vector<JournalTag> DecodeJournalTags(const JournalSuperblock& super,
                                          std::span<const std::byte> block) {
  std::vector<JournalTag> tags;
  const size_t tag_bytes = TagBytes(super);
  const size_t end = block.size() - (super.has_checksums() ? kTailBytes : 0);
  for (size_t at = kHeaderBytes; at + tag_bytes <= end;) {
    JournalTag tag;
    tag.block = Load32(block, at);
    uint32_t flags = 0;
    if (super.has_checksums_v3) {
      flags = Load32(block, at + 4);
      tag.checksum = Load32(block, at + 12);
    } else {
      flags = LoadBig<uint16_t>(block.data() + at + 6);
      tag.checksum = LoadBig<uint16_t>(block.data() + at + 4);
    }
    if (super.has_64bit) tag.block |= static_cast<uint64_t>(Load32(block, at + 8)) << 32;
    tag.is_escaped = (flags & kTagEscaped) != 0;
    tags.push_back(tag);
    if ((flags & kTagLast) != 0) break;
    at += tag_bytes + ((flags & kTagSameUuid) != 0 ? 0 : kUuidBytes);
  }
  return tags;
}

std::vector<uint64_t> DecodeRevocation(const JournalSuperblock& super,
                                       std::span<const std::byte> block) {
  const size_t end_max = block.size() - (super.has_checksums() ? kTailBytes : 0);
  const size_t end = std::min<size_t>(Load32(block, kHeaderBytes), end_max);
  const size_t record_bytes = super.has_64bit ? 8 : 4;
  std::vector<uint64_t> blocks;
  for (size_t at = kHeaderBytes + 4; at + record_bytes <= end; at += record_bytes) {
    blocks.push_back(super.has_64bit ? LoadBig<uint64_t>(block.data() + at) : Load32(block, at));
  }
  return blocks;
}

bool IsTailIntact(const JournalSuperblock& super, std::span<const std::byte> block) {
  const size_t at = block.size() - kTailBytes;
  return !super.has_checksums() || Crc32cWithout(super.seed, block, at) == Load32(block, at);
}

bool IsCommitIntact(const JournalSuperblock& super, std::span<const std::byte> block) {
  return !super.has_checksums() ||
         Crc32cWithout(super.seed, block, kCommitChecksumAt) == Load32(block, kCommitChecksumAt);
}

bool IsCopyIntact(const JournalSuperblock& super, const JournalTag& tag, uint32_t sequence,
                  std::span<const std::byte> copy) {
  if (!super.has_checksums()) return true;
  std::array<std::byte, 4> number{};
  StoreBig(number.data(), sequence);
  const uint32_t crc = Crc32c(Crc32c(super.seed, number), copy);
  return tag.checksum == (super.has_checksums_v3 ? crc : crc & 0xffff);
}

bool IsTransactionIntact(const JournalSuperblock& super, std::span<const std::byte> commit,
                         uint32_t transaction_crc) {
  if (!super.has_checksums_v1) return true;
  const auto type = std::to_integer<uint8_t>(commit[kCommitChecksumTypeAt]);
  const auto size = std::to_integer<uint8_t>(commit[kCommitChecksumTypeAt + 1]);
  const uint32_t found = Load32(commit, kCommitChecksumAt);
  // A commit block without any is of a kernel that wrote none.
  if (type == 0 && size == 0 && found == 0) return true;
  return type == kCommitCrc32 && size == 4 && found == transaction_crc;
}

uint32_t Crc32BigEndian(uint32_t crc, std::span<const std::byte> bytes) {
  return ext2fs_crc32_be(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

void Unescape(std::span<std::byte> block) { StoreBig(block.data(), kMagic); }

}  // namespace cowl
