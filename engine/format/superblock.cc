#include "format/superblock.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr char kMagic[8] = {'C', 'O', 'W', 'L', 'D', 'A', 'T', 'A'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kFlagClean = 1;
// Feature bits this version knows, in three classes: refuse the file, ignore the bit, clear the bit
// on writing.
constexpr uint64_t kKnownRefuse = 0;
// More entries than blocks of the largest disk make no sense in any section.
constexpr uint64_t kSectionEntriesMax = 1ull << 34;
constexpr uint64_t kBlockLimit = 1ull << 36;

struct DiskSection {
  uint64_t block, blocks, entries, check;
};

struct DiskSuperblock {
  char magic[8];
  uint64_t check;  // XXH3 of all that follows, to the end of the sector
  uint32_t version;
  uint32_t kind;
  uint64_t features_refuse, features_ignore, features_clear;
  uint8_t id[16];
  uint8_t parent[16];
  uint64_t generation;
  uint64_t secret;
  uint64_t size_bytes;
  uint32_t incarnation;
  uint32_t flags;
  int64_t created_ns;
  uint64_t checkpoint_order;
  uint64_t stored_blocks;
  DiskSection map, sum_pages, files;
  uint64_t journal_block, journal_blocks, journal_check;
  uint64_t resume_order;
  uint16_t created_by_bytes;
  char created_by[Superblock::kCreatedByBytesMax];
  uint8_t zero[kSectorBytes - 466];
};
// One sector, which the disk writes whole or not at all: a superblock is never torn, so one that
// fails its check was damaged.
static_assert(sizeof(DiskSuperblock) == kSectorBytes);
static_assert(offsetof(DiskSuperblock, version) == 16);
static_assert(offsetof(DiskSuperblock, id) == 48);
static_assert(offsetof(DiskSuperblock, map) == 136);
static_assert(offsetof(DiskSuperblock, journal_block) == 232);
static_assert(offsetof(DiskSuperblock, created_by_bytes) == 264);
static_assert(offsetof(DiskSuperblock, zero) == 466);

constexpr size_t kCheckedFrom = offsetof(DiskSuperblock, version);
constexpr size_t kZeroFrom = offsetof(DiskSuperblock, zero);

DiskSection ToDisk(const Section& s) { return {s.block, s.blocks, s.entries, s.check}; }
Section FromDisk(const DiskSection& s) { return {s.block, s.blocks, s.entries, s.check}; }

absl::Status CheckSection(const Section& section, uint64_t entry_bytes, const char* what,
                          const std::string& path) {
  const bool fits = section.entries <= kSectionEntriesMax &&
                    BlocksCeil(section.entries * entry_bytes) == section.blocks;
  const bool placed =
      section.blocks == 0 ? section.block == 0 : section.block >= Superblock::kFirstFreeBlock;
  const bool in_range = section.block < kBlockLimit && section.blocks < kBlockLimit - section.block;
  if (fits && placed && in_range) return absl::OkStatus();
  return DataLoss(absl::StrCat(path, ": superblock: the ", what, " section is malformed"));
}

Superblock ToHost(const DiskSuperblock& disk) {
  Superblock host;
  host.kind = static_cast<DataFileKind>(disk.kind);
  host.features_ignore = disk.features_ignore;
  std::memcpy(host.id.bytes.data(), disk.id, 16);
  std::memcpy(host.parent.bytes.data(), disk.parent, 16);
  host.generation = disk.generation;
  host.secret = disk.secret;
  host.size_bytes = disk.size_bytes;
  host.incarnation = disk.incarnation;
  host.clean = (disk.flags & kFlagClean) != 0;
  host.created_ns = disk.created_ns;
  host.checkpoint_order = disk.checkpoint_order;
  host.stored_blocks = disk.stored_blocks;
  host.map = FromDisk(disk.map);
  host.sum_pages = FromDisk(disk.sum_pages);
  host.files = FromDisk(disk.files);
  host.journal_block = disk.journal_block;
  host.journal_blocks = disk.journal_blocks;
  host.journal_check = disk.journal_check;
  host.resume_order = disk.resume_order;
  host.created_by.assign(disk.created_by,
                         std::min<size_t>(disk.created_by_bytes, Superblock::kCreatedByBytesMax));
  return host;
}

}  // namespace

absl::Status CheckSuperblock(const Superblock& superblock, const std::string& path) {
  COWL_RETURN_IF_ERROR(CheckSection(superblock.map, 16, "map", path));
  COWL_RETURN_IF_ERROR(CheckSection(superblock.sum_pages, 8, "checksum page", path));
  COWL_RETURN_IF_ERROR(CheckSection(superblock.files, 16, "data file", path));
  const bool size_ok = superblock.size_bytes >= kDeviceBytesMin &&
                       superblock.size_bytes <= kDeviceBytesMax &&
                       superblock.size_bytes % kSectorBytes == 0;
  const bool has_journal =
      superblock.journal_block >= Superblock::kFirstFreeBlock && superblock.journal_blocks != 0;
  const bool no_journal = superblock.journal_block == 0 && superblock.journal_blocks == 0;
  const bool journal_ok = (has_journal || no_journal) && superblock.journal_block < kBlockLimit &&
                          superblock.journal_blocks < kBlockLimit - superblock.journal_block;
  const bool counts_ok = superblock.generation != 0 &&
                         superblock.generation < Superblock::kCountLimit &&
                         superblock.checkpoint_order < Superblock::kCountLimit &&
                         superblock.resume_order < Superblock::kCountLimit &&
                         superblock.incarnation < Superblock::kIncarnationLimit;
  if (size_ok && journal_ok && counts_ok && !superblock.id.IsNil()) return absl::OkStatus();
  return DataLoss(absl::StrCat(path, ": superblock: a field is out of its range"));
}

void EncodeSuperblock(const Superblock& superblock, std::span<std::byte> into) {
  COWL_CHECK(into.size() == kBlockBytes);
  COWL_CHECK(superblock.created_by.size() <= Superblock::kCreatedByBytesMax);
  DiskSuperblock disk{};
  std::memcpy(disk.magic, kMagic, sizeof(kMagic));
  disk.version = kVersion;
  disk.kind = static_cast<uint32_t>(superblock.kind);
  disk.features_ignore = superblock.features_ignore;  // features_clear: none is known, all go
  std::memcpy(disk.id, superblock.id.bytes.data(), 16);
  std::memcpy(disk.parent, superblock.parent.bytes.data(), 16);
  disk.generation = superblock.generation;
  disk.secret = superblock.secret;
  disk.size_bytes = superblock.size_bytes;
  disk.incarnation = superblock.incarnation;
  disk.flags = superblock.clean ? kFlagClean : 0;
  disk.created_ns = superblock.created_ns;
  disk.checkpoint_order = superblock.checkpoint_order;
  disk.stored_blocks = superblock.stored_blocks;
  disk.map = ToDisk(superblock.map);
  disk.sum_pages = ToDisk(superblock.sum_pages);
  disk.files = ToDisk(superblock.files);
  disk.journal_block = superblock.journal_block;
  disk.journal_blocks = superblock.journal_blocks;
  disk.journal_check = superblock.journal_check;
  disk.resume_order = superblock.resume_order;
  disk.created_by_bytes = static_cast<uint16_t>(superblock.created_by.size());
  std::memcpy(disk.created_by, superblock.created_by.data(), superblock.created_by.size());
  std::memset(into.data(), 0, into.size());
  std::memcpy(into.data(), &disk, sizeof(disk));
  FinishSuperblock(into);
}

void FinishSuperblock(std::span<std::byte> block) {
  COWL_CHECK(block.size() == kBlockBytes);
  StoreLittle(block.data() + offsetof(DiskSuperblock, check),
              Xxh3(block.subspan(kCheckedFrom, kSectorBytes - kCheckedFrom)));
}

absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> from,
                                            const std::string& path) {
  COWL_CHECK(from.size() == kBlockBytes);
  DiskSuperblock disk;
  std::memcpy(&disk, from.data(), sizeof(disk));
  if (std::memcmp(disk.magic, kMagic, sizeof(kMagic)) != 0) {
    return DataLoss(absl::StrCat(path, ": not a cowl data file (no COWLDATA at its start)"));
  }
  if (disk.check != Xxh3(from.subspan(kCheckedFrom, kSectorBytes - kCheckedFrom))) {
    return DataLoss(absl::StrCat(path, ": superblock: checksum mismatch"));
  }
  if (disk.version != kVersion || (disk.features_refuse & ~kKnownRefuse) != 0) {
    return FailedPrecondition(absl::StrCat(path, ": format version ", disk.version,
                                           " with features ", disk.features_refuse,
                                           " needs a newer cowl"));
  }
  const bool kind_ok = disk.kind == 1 || disk.kind == 2;
  if (!kind_ok || (disk.flags & ~kFlagClean) != 0 ||
      disk.created_by_bytes > Superblock::kCreatedByBytesMax || !IsZero(from.subspan(kZeroFrom))) {
    return DataLoss(absl::StrCat(path, ": superblock: a field that must be zero or known is not"));
  }
  Superblock host = ToHost(disk);
  COWL_RETURN_IF_ERROR(CheckSuperblock(host, path));
  return host;
}

absl::StatusOr<Superblock> ChooseSuperblock(std::span<const std::byte> from,
                                            const std::string& path) {
  COWL_CHECK(from.size() == 2 * kBlockBytes);
  std::optional<Superblock> newest;
  int empty_slots = 0;
  for (uint64_t slot = 0; slot < 2; ++slot) {
    const std::span<const std::byte> block = from.subspan(slot * kBlockBytes, kBlockBytes);
    if (IsZero(block)) {
      ++empty_slots;
      continue;
    }
    absl::StatusOr<Superblock> superblock = DecodeSuperblock(block, path);
    if (!superblock.ok()) return superblock.status();
    if (Superblock::SlotOf(superblock->generation) != slot)
      return DataLoss(path + ": superblock: in the wrong place");
    if (newest && newest->id != superblock->id)
      return DataLoss(path + ": superblock: the two are of different files");
    if (!newest || newest->generation < superblock->generation) newest = *std::move(superblock);
  }
  // Both are written when the file is made: what stood in an empty one was lost, and might have
  // been the newer.
  if (newest && empty_slots != 0) return DataLoss(path + ": superblock: one of the two is gone");
  if (newest) return *std::move(newest);
  return DataLoss(path + ": has no superblock: its writing was interrupted");
}

}  // namespace cowl
