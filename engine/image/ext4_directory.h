// ext4_directory.h: a directory's entries as the blocks ext4 keeps them in: one block of records,
// or a hashed tree. Pure functions over bytes; checksums are not set here (they need the file
// system: ext2fs_dir_block_csum_set). The order of entries given in does not matter where there is
// a tree; where there is none it is kept.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cowl {

struct DirectoryRecord {
  std::string_view name;  // 1 to 255 bytes
  uint32_t inode = 0;
  uint8_t type = 0;  // EXT2_FT_*
};

using DirectoryHashSeed = std::array<uint32_t, 4>;

struct DirectoryBlocks {
  std::string bytes;     // whole blocks of 4,096
  bool indexed = false;  // a hashed tree: the inode carries EXT2_INDEX_FL
};

// `self` and `parent` are what "." and ".." name.
DirectoryBlocks BuildDirectory(uint32_t self, uint32_t parent,
                               const std::vector<DirectoryRecord>& records,
                               const DirectoryHashSeed& seed);

// "." and ".." and then `block_count` - 1 blocks without entries: lost+found.
std::string BuildEmptyDirectory(uint32_t self, uint32_t parent, size_t block_count);

// An upper bound of the blocks BuildDirectory makes, for `record_count` names of `names_bytes`
// together.
uint64_t DirectoryBlocksMax(uint64_t record_count, uint64_t names_bytes);

}  // namespace cowl
