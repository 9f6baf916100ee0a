// superblock.h: the first two blocks of every data file, layers' and overlays': which of them is
// valid and newest says all else. Units: blocks of the file unless named. Threads: pure functions.
// Errors: DataLoss for what a crash or a flipped bit leaves, FailedPrecondition for files of a
// newer format. Durability: all that counts stands in one sector, which the disk writes whole or
// not at all; the writer alternates between blocks 0 and 1 (SlotOf), and syncs before it writes the
// next generation. So a superblock that fails its check is never a crash's doing. Byte table:
// docs/format.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/units.h"
#include "base/uuid.h"

namespace cowl {

enum class DataFileKind : uint32_t { kLayer = 1, kOverlay = 2 };

// A run of whole blocks that holds an array, and the XXH3 of the array's bytes. No entries: no
// blocks.
struct Section {
  uint64_t block = 0;
  uint64_t blocks = 0;
  uint64_t entries = 0;
  uint64_t check = 0;
  bool operator==(const Section&) const = default;
};

struct Superblock {
  static constexpr uint64_t kFirstFreeBlock = 2;
  static constexpr size_t kCreatedByBytesMax = 200;
  // Generations and orders, and incarnations, stay below these, which nobody reaches by counting:
  // one that came to the end would begin anew, and what is newest would not be known.
  static constexpr uint64_t kCountLimit = 1ull << 62;
  static constexpr uint32_t kIncarnationLimit = 1u << 31;

  DataFileKind kind = DataFileKind::kLayer;
  // Bits that a newer version set, which say that not knowing them does no harm: kept as they are.
  uint64_t features_ignore = 0;
  Uuid id;
  Uuid parent;
  uint64_t generation = 1;
  uint64_t secret = 0;       // keys the checks of this file's journal records
  uint64_t size_bytes = 0;   // of the disk
  uint32_t incarnation = 0;  // raised at every writable open of an overlay
  bool clean = false;        // an overlay that was closed in order: the journal is empty
  int64_t created_ns = 0;
  uint64_t checkpoint_order = 0;  // the map holds every record up to this one
  uint64_t stored_blocks = 0;     // data blocks the map names
  Section map;                    // of Extent
  Section sum_pages;  // of uint64: the block of each checksum page, 0 where there is none
  Section files;  // of Uuid: data files the map names by source 1, 2, ...; source 0 is this file
  uint64_t journal_block = 0;  // first chunk; 0: no journal
  uint64_t journal_blocks = 0;
  uint64_t journal_check = 0;  // what the first record must name as its predecessor's check
  uint64_t resume_order =
      0;  // durable up to here; records above it carry this incarnation, others are a stale tail
  std::string created_by;

  bool operator==(const Superblock&) const = default;

  static uint64_t SlotOf(uint64_t generation) { return generation % 2; }
};

// Whether the fields are in their ranges: what DecodeSuperblock asks of them. DataLoss names
// `path`.
absl::Status CheckSuperblock(const Superblock& superblock, const std::string& path);

// `into` is one block. CHECKs that created_by fits.
void EncodeSuperblock(const Superblock& superblock, std::span<std::byte> into);

// Fills in the check of a superblock's block; to be called when its fields are in place.
void FinishSuperblock(std::span<std::byte> block);

// `from` is one block. `path` names the file in errors.
absl::StatusOr<Superblock> DecodeSuperblock(std::span<const std::byte> from,
                                            const std::string& path);

// The newer of the two. `from` is the file's first two blocks; one that is empty beside a
// valid one, or damaged, is an error: it may have been the newer one.
absl::StatusOr<Superblock> ChooseSuperblock(std::span<const std::byte> from,
                                            const std::string& path);

}  // namespace cowl
