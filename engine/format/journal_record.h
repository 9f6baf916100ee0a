// journal_record.h: the records of an overlay's journal: what a write, a zeroed range and the turns
// of a journal's life look like. A record proves itself: its check is keyed with the file's secret
// (guests choose data, so data must never pass for a record) and covers order, incarnation and the
// check of the record before it, so nothing stale ever fits on. Units: blocks. Threads: pure
// functions. Errors: DecodeRecord says nullopt for whatever is not a whole, valid record.
// clang-format off
//
//    0 check u64 (XXH3 of the rest, seeded with the secret)     8 previous record's check u64
//   16 order u64                                               24 durable order u64
//   32 incarnation u32                                         36 length in bytes u32 (a multiple of 8)
//   40 type u16                                                42 zero u16
//   44 runs u32                                                48 payload
//
// clang-format on
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/units.h"
#include "base/uuid.h"

namespace cowl {

// A run of slots in the overlay's file.
struct SlotRun {
  uint64_t physical = 0;
  uint64_t blocks = 0;
  bool operator==(const SlotRun&) const = default;
};

struct JournalRecord {
  enum class Type : uint16_t {
    kWrite = 1,     // start, runs, sums
    kZero = 2,      // start, blocks
    kLink = 3,      // the journal goes on in another chunk: physical, blocks
    kSeal = 4,      // this overlay ends here: peer is its successor
    kContinue = 5,  // first record of a successor: peer is the overlay it follows; peer_order,
                    // peer_check name that one's seal
    kMark = 6,      // says nothing but its durable order; padded to stand in sectors of its own
  };
  static constexpr size_t kHeaderBytes = 48;
  static constexpr uint64_t kBlocksMax =
      256;  // of one kWrite: larger requests take several records
  static constexpr size_t kBytesMax = kHeaderBytes + 8 + 16 * kBlocksMax;
  static constexpr size_t kMarkPaddingBytes = 512;
  static constexpr size_t kLinkBytes = kHeaderBytes + 16;
  static constexpr uint64_t kChunkBlocksMax = 4 * kMiB / kBlockBytes;  // of one chunk of a journal

  Type type = Type::kWrite;
  uint64_t check = 0;
  uint64_t previous_check = 0;
  uint64_t order = 0;
  uint64_t durable_order = 0;
  uint32_t incarnation = 0;

  uint64_t start = 0;
  uint64_t blocks = 0;
  std::vector<SlotRun> runs;
  std::vector<uint64_t> sums;
  SlotRun chunk;
  Uuid peer;
  uint64_t peer_order = 0;
  uint64_t peer_check = 0;
};

// How long the record is on disk.
size_t EncodedBytes(const JournalRecord& record);

// Appends the record to `out` and returns its check. REQUIRES: a kWrite has 1 to kBlocksMax blocks,
// each with a sum.
uint64_t EncodeRecord(const JournalRecord& record, uint64_t secret, std::vector<std::byte>& out);

// Fills in the check of the record at the start of `from`; to be called when its fields are in
// place. False when its length cannot be.
bool FinishRecord(std::span<std::byte> from, uint64_t secret);

// The record at the start of `from`; *length_bytes is then its length. Says nothing about whether
// it follows another.
std::optional<JournalRecord> DecodeRecord(std::span<const std::byte> from, uint64_t secret,
                                          size_t* length_bytes);

}  // namespace cowl
