// file_changes.h: which files the changed blocks of a disk belong to, and what overlayfs would have
// copied up for the same change.
// Units: bytes. Threads: pure. Errors: none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "files/byte_ranges.h"
#include "files/ext4_files.h"

namespace cowl {

struct FileChange {
  enum class Kind : uint8_t { kAdded, kModified, kDeleted };
  std::string path;
  Kind kind = Kind::kModified;
  // Of the changed blocks, those that are the file's: each block counts once, for its owner in the
  // newer tree, else for its owner in the older one; of several names for the first.
  uint64_t block_bytes = 0;
  // What overlayfs (without metacopy, index and redirect_dir) copies up: the former size of a
  // regular file that was there before and was changed, renamed or given another name, once.
  uint64_t file_bytes = 0;
};

struct FileChanges {
  std::vector<FileChange> files;  // sorted by path
  uint64_t other_bytes = 0;       // changed blocks of no file: inode tables, bitmaps, the journal
};

// A path counts as modified also where only its blocks were written, be it with equal bytes.
FileChanges CompareFiles(const FileTree& newer, const FileTree& older, const ByteRanges& changed);

}  // namespace cowl
