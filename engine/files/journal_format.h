// journal_format.h: the journal's blocks, decoded: pure. The format is that of the kernel's
// documentation, Documentation/filesystems/ext4/journal.rst; all fields are big endian.
// Errors: nullopt, or DataLoss and Unimplemented as journal_replay.h says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace cowl {

enum class JournalBlockKind : uint32_t { kDescriptor = 1, kCommit = 2, kRevocation = 5 };

struct JournalHeader {
  uint32_t kind = 0;
  uint32_t sequence = 0;
};

// nullopt: no block of the journal's own.
std::optional<JournalHeader> DecodeJournalHeader(std::span<const std::byte> block);

struct JournalSuperblock {
  uint32_t length_blocks = 0;  // of the journal
  uint32_t first = 0;          // of the log
  uint32_t sequence = 0;       // of the first transaction in it
  uint32_t start = 0;          // where that begins; 0: the log is empty
  bool has_64bit = false;
  bool has_checksums_v1 = false;  // over a whole transaction, in its commit block
  bool has_checksums_v2 = false;
  bool has_checksums_v3 = false;
  uint32_t seed = 0;  // of checksums v2 and v3

  bool has_checksums() const { return has_checksums_v2 || has_checksums_v3; }
};

absl::StatusOr<JournalSuperblock> DecodeJournalSuperblock(std::span<const std::byte> block,
                                                          uint32_t block_count);

struct JournalTag {
  uint64_t block = 0;  // of the file system
  uint32_t checksum = 0;
  bool is_escaped = false;
};

// The tags of a descriptor block, as many as fit.
std::vector<JournalTag> DecodeJournalTags(const JournalSuperblock& super,
                                          std::span<const std::byte> block);
// The blocks that a revocation names.
std::vector<uint64_t> DecodeRevocation(const JournalSuperblock& super,
                                       std::span<const std::byte> block);

// Whether the checksums fit; true where the journal has none.
bool IsTailIntact(const JournalSuperblock& super, std::span<const std::byte> block);
bool IsCommitIntact(const JournalSuperblock& super, std::span<const std::byte> block);
bool IsCopyIntact(const JournalSuperblock& super, const JournalTag& tag, uint32_t sequence,
                  std::span<const std::byte> copy);
// `transaction_crc`: over all descriptors and copies of the transaction (checksums v1).
bool IsTransactionIntact(const JournalSuperblock& super, std::span<const std::byte> commit,
                         uint32_t transaction_crc);

// The big-endian CRC-32 of checksums v1, continued from `crc`.
uint32_t Crc32BigEndian(uint32_t crc, std::span<const std::byte> bytes);

}  // namespace cowl
