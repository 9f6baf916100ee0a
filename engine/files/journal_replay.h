// journal_replay.h: what recovery would write to an ext4 whose journal was not emptied by a clean
// unmount, found out without writing: which blocks of the file system are superseded by which
// blocks of the journal. The format is that of the kernel's documentation,
// Documentation/filesystems/ext4/journal.rst: a circular log of transactions, each of descriptor
// blocks with the blocks that follow them, of revocations, and of a commit block at its end.
// Only transactions that were committed count; the log ends at the first that was not, or at a
// descriptor, revocation or commit block that fails its checksum: that looks the same.
// Units: blocks of the journal, of the file system's size. Threads: pure but for `read`.
// Errors: DataLoss where a copy in a committed transaction fails its checksum, or the journal's
// superblock makes no sense. Unimplemented: features
// that are not known here (fast commits, external journals). Bounds: the log is gone through once,
// whatever it says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>

#include "absl/status/statusor.h"

namespace cowl {

// Where the journal holds the present content of a block.
struct JournalCopy {
  uint32_t journal_block = 0;
  // The copy's first four bytes were the journal's magic number, and zeros stand there instead.
  bool is_escaped = false;
};

using JournalCopies = std::unordered_map<uint64_t, JournalCopy>;  // by block of the file system

struct JournalSource {
  uint32_t block_bytes = 0;
  uint32_t block_count = 0;         // that the journal's file has
  uint64_t file_system_blocks = 0;  // what a transaction may name
  // Reads one block of the journal.
  std::function<absl::Status(uint32_t journal_block, std::span<std::byte> into)> read;
};

absl::StatusOr<JournalCopies> ReplayJournal(const JournalSource& source);

// Puts back what an escaped copy lacks.
void Unescape(std::span<std::byte> block);

}  // namespace cowl
