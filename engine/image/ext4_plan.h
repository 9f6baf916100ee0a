// ext4_plan.h: how large an ext4 for a tree must be, and how it is laid out: arithmetic only.
// Units: blocks are 4,096 bytes. The needs are upper bounds: a file system of that size holds the
// tree for certain.
#pragma once

#include <cstdint>

#include "image/tree.h"

namespace cowl {

// What a tree takes of an ext4, whatever its size.
struct Ext4Needs {
  uint64_t inode_count = 0;    // with the reserved ones
  uint64_t block_count = 0;    // data, directories, links, attributes, extent trees
  uint64_t content_bytes = 0;  // what the default size is reckoned from
};

struct Ext4Layout {
  uint64_t block_count = 0;
  uint32_t inode_count = 0;
  uint32_t journal_blocks = 0;  // 0: too small for a journal
};

Ext4Needs NeedsOf(const Tree& tree);

// The layout of a file system that fills a disk.
Ext4Layout LayoutFor(const Ext4Needs& needs, uint64_t disk_bytes);

// The smallest disk that certainly holds it, in whole MiB.
uint64_t DiskBytesMin(const Ext4Needs& needs);

// Content x 1.25 + 64 MiB, rounded up to 16 MiB; more where that would not do (very many very small
// files).
uint64_t DefaultDiskBytes(const Ext4Needs& needs);

// Attributes that together take more than this go to a block of their own.
inline constexpr uint64_t kXattrInodeBytes = 256 - 160 - 8;
uint64_t XattrBytes(const TreeInode& inode);

}  // namespace cowl
