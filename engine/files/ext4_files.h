// ext4_files.h: all files of an ext4, each path with what tells one state of it from another.
// Units: bytes of the disk. Threads: one. Errors: as Ext4Disk; DataLoss also for directories that
// contain themselves and for files that claim more than the disk has. Memory: some 200 bytes a
// path, and 16 for each run of blocks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "files/byte_ranges.h"
#include "files/ext4_disk.h"

namespace cowl {

// What an inode says but for its times of access and change, its flags and project, and how many
// names it has. Attributes in a block of their own are told by where that is, not by what it holds.
struct FileState {
  uint32_t inode = 0;
  uint32_t generation = 0;  // another one: another file that got the number of one that is gone
  uint16_t mode = 0;
  uint64_t size_bytes = 0;
  std::string facts;              // owner, time of modification, device, target, attributes: opaque
  std::vector<ByteRange> ranges;  // its data, and the blocks that say where that is

  bool is_regular() const;
  bool IsSameInode(const FileState& other) const {
    return inode == other.inode && generation == other.generation &&
           (mode & 0170000) == (other.mode & 0170000);
  }
};

struct FileTree {
  std::vector<FileState> states;
  std::map<std::string, uint32_t> paths;  // absolute, sorted bytewise; indices of states
};

// `goes_on` is asked now and then; Cancelled when it says no.
absl::StatusOr<FileTree> ReadFiles(Ext4Disk& disk, const std::function<bool()>& goes_on);

}  // namespace cowl
