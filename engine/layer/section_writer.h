// section_writer.h: appends sections and superblocks to a data file. Units: blocks. Threads: one
// loop. Durability: none; the caller syncs between sections and superblock, and after the
// superblock (the commit point).
#pragma once

#include <span>

#include "format/superblock.h"
#include "io/file.h"
#include "io/task.h"

namespace cowl {

// Writes `bytes` at `block` and returns the section that names them. No bytes: no section.
Task<absl::StatusOr<Section>> WriteSection(File& file, uint64_t block,
                                           std::span<const std::byte> bytes, uint64_t entries);

// FailedPrecondition when it could not be read again.
Task<absl::Status> WriteSuperblock(File& file, Superblock superblock);

// Writes the first superblock of a new file into both slots, as generations 1 and 2, so that from
// the first sync on an empty slot is damage. Sets the generation of `superblock` to 2.
Task<absl::Status> WriteFirstSuperblock(File& file, Superblock* superblock);

}  // namespace cowl
