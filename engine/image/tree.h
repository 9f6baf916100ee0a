// tree.h: a directory tree as an import sees it: everything but the contents of its files, in
// memory. Order: fixed by the names alone: the same tree gives the same inodes in the same order on
// any host. Stays on the file system of its root, as tar --one-file-system does: what is mounted
// inside is left out, a mount point stays as an empty directory (or an empty file). Memory: about
// 250 bytes a file. Threads: one. Errors: name the path below the source.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "cowl/store.h"

namespace cowl {

struct Xattr {
  std::string name;
  std::string value;
};

struct TreeInode {
  uint32_t parent = 0;  // index of the directory it was first found in; the root is its own
  uint32_t entry = 0;   // index of its first name
  uint32_t mode = 0;    // as st_mode
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t links = 0;  // names in this tree; of a directory: directories in it
  int64_t mtime_s = 0;
  uint32_t mtime_ns = 0;
  uint32_t rdev_major = 0;
  uint32_t rdev_minor = 0;
  uint64_t size_bytes = 0;       // of regular files
  uint64_t data_blocks_max = 0;  // of 4,096 bytes, that a regular file's data can take
  uint64_t data_runs = 0;        // runs of data between holes
  uint32_t entries_begin =
      0;  // of directories: [entries_begin, entries_end) of Tree::entries, sorted by name
  uint32_t entries_end = 0;
  bool mounted_over = false;  // a mount point: what is mounted there is left out
  std::string link_target;    // of symbolic links
  std::vector<Xattr> xattrs;  // sorted by name
};

struct TreeEntry {
  std::string name;
  uint32_t inode;  // index
};

struct Tree {
  std::vector<TreeInode> inodes;  // [0] is the root
  std::vector<TreeEntry> entries;
  uint64_t data_bytes =
      0;  // what Progress counts: the sizes of the regular files without their holes

  // Below the root: "etc/passwd"; the root itself is ".".
  std::string PathOf(uint32_t inode) const;
};

// `root` is an open directory, `name` what messages call it.
absl::StatusOr<Tree> ScanTree(int root, const std::string& name, const Progress& progress);

// Opens `path` below `root` without following any symbolic link, however long the path is. Errors
// name `name`/`path`.
absl::StatusOr<UniqueFd> OpenBelow(int root, const std::string& name, const std::string& path,
                                   int flags);

}  // namespace cowl
