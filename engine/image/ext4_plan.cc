#include "image/ext4_plan.h"

#include <ext2fs/ext2fs.h>

#include <algorithm>

#include "base/units.h"
#include "image/ext4_directory.h"

namespace cowl {
namespace {

constexpr uint64_t kBlocksPerGroup = 8 * kBlockBytes;
constexpr uint64_t kInodesPerGroupMax = 8 * kBlockBytes;
constexpr uint64_t kInodesPerBlock = kBlockBytes / 256;
constexpr uint64_t kExtentsPerBlock = 340;
constexpr uint64_t kExtentsInInode = 4;
constexpr uint64_t kReservedInodes = 11;
constexpr uint64_t kLostAndFoundBlocks = 4;

// Blocks of the tree of a file's extents.
uint64_t ExtentTreeBlocksMax(const TreeInode& inode) {
  // A run is cut by what lies in its way on the disk, every 32,768 blocks twice at most. It is also
  // cut by blocks of zeros, each of which saves more than the cut costs; five extents are the first
  // that need a block.
  const uint64_t extents = inode.data_runs + 2 + 3 * (inode.data_blocks_max / kBlocksPerGroup);
  if (extents <= kExtentsInInode && inode.data_blocks_max < 8) return 0;
  const uint64_t leaves = extents / kExtentsPerBlock + 1;
  return leaves + (leaves > kExtentsInInode ? leaves / kExtentsPerBlock + 1 : 0);
}

uint64_t BlocksOf(const TreeInode& inode, const Tree& tree) {
  uint64_t blocks = XattrBytes(inode) > kXattrInodeBytes ? 1 : 0;
  if (S_ISREG(inode.mode) && inode.data_blocks_max > 0) {
    blocks += inode.data_blocks_max + ExtentTreeBlocksMax(inode);
  } else if (S_ISLNK(inode.mode) && inode.link_target.size() >= EXT2_N_BLOCKS * 4) {
    blocks += 1;
  } else if (S_ISDIR(inode.mode)) {
    uint64_t names_bytes = 0;
    for (uint32_t i = inode.entries_begin; i < inode.entries_end; ++i)
      names_bytes += tree.entries[i].name.size();
    blocks += DirectoryBlocksMax(inode.entries_end - inode.entries_begin, names_bytes);
  }
  return blocks;
}

// A journal is written round and round, and every block of it that was ever written takes space in
// an overlay. So it is kept smaller than mke2fs makes it: large enough not to stall one container's
// writes, no larger.
uint32_t JournalBlocks(uint64_t block_count) {
  if (block_count < 2048) return 0;
  if (block_count < 128 * kMiB / kBlockBytes) return 4 * kMiB / kBlockBytes;
  if (block_count < kGiB / kBlockBytes) return 16 * kMiB / kBlockBytes;
  return 32 * kMiB / kBlockBytes;
}

// One inode for so many bytes, as mke2fs does.
uint64_t BytesPerInode(uint64_t disk_bytes) {
  if (disk_bytes < 4 * kTiB) return 16384;
  return disk_bytes < 16 * kTiB ? 32768 : 65536;
}

// What the file system itself takes.
uint64_t OverheadBlocks(const Ext4Layout& layout) {
  const uint64_t groups = layout.block_count / kBlocksPerGroup + 1;
  const uint64_t descriptors = groups * 64 / kBlockBytes + 1;
  // The superblock and its copies, with descriptors and the blocks that are reserved for growing by
  // a factor of 1,024.
  const uint64_t reserved = std::min<uint64_t>(1024, groups * 1024 * 64 / kBlockBytes + 1);
  uint64_t copies = std::min<uint64_t>(groups, 2);
  for (const uint64_t base : {3, 5, 7}) {
    for (uint64_t group = base; group < groups; group *= base) ++copies;
  }
  // An inode table is whole blocks in each group.
  const uint64_t inode_tables = layout.inode_count / kInodesPerBlock + groups;
  return copies * (1 + descriptors + reserved) + groups * 2 + inode_tables + layout.journal_blocks +
         2 + 16;
}

}  // namespace

uint64_t XattrBytes(const TreeInode& inode) {
  uint64_t bytes = 0;
  for (const Xattr& xattr : inode.xattrs) {
    bytes += 16 + RoundUp(xattr.name.size(), 4) + RoundUp(xattr.value.size(), 4);
  }
  return bytes;
}

Ext4Needs NeedsOf(const Tree& tree) {
  Ext4Needs needs;
  needs.inode_count = tree.inodes.size() + kReservedInodes;
  for (const TreeInode& inode : tree.inodes) needs.block_count += BlocksOf(inode, tree);
  needs.content_bytes = needs.block_count * kBlockBytes;
  needs.block_count += kLostAndFoundBlocks + 1;
  return needs;
}

Ext4Layout LayoutFor(const Ext4Needs& needs, uint64_t disk_bytes) {
  Ext4Layout layout;
  layout.block_count = disk_bytes / kBlockBytes;
  const uint64_t room = needs.inode_count + needs.inode_count / 2 + 1024;
  const uint64_t inodes = std::max(disk_bytes / BytesPerInode(disk_bytes), room);
  layout.inode_count = static_cast<uint32_t>(std::min<uint64_t>(inodes, 0xffff0000));
  layout.journal_blocks = JournalBlocks(layout.block_count);
  return layout;
}

uint64_t DiskBytesMin(const Ext4Needs& needs) {
  // Overhead grows with the size, but far slower: go up until it fits.
  uint64_t disk_bytes = RoundUp(needs.block_count * kBlockBytes, kMiB);
  for (;;) {
    const Ext4Layout layout = LayoutFor(needs, disk_bytes);
    // libext2fs gives up a last group that would be too short to be of use.
    const uint64_t last_group = layout.block_count % kBlocksPerGroup;
    const uint64_t lost =
        last_group < kBlocksPerGroup / 8 && layout.block_count > kBlocksPerGroup ? last_group : 0;
    const uint64_t groups =
        (layout.block_count - lost) / kBlocksPerGroup + (last_group > lost ? 1 : 0);
    const uint64_t want = needs.block_count + OverheadBlocks(layout) + lost;
    const bool inodes_fit = layout.inode_count <= groups * (kInodesPerGroupMax - 8);
    if (want <= layout.block_count && inodes_fit) return disk_bytes;
    const uint64_t missing_bytes =
        want > layout.block_count ? (want - layout.block_count) * kBlockBytes : 0;
    disk_bytes += std::max(kMiB, RoundUp(missing_bytes, kMiB));
  }
}

uint64_t DefaultDiskBytes(const Ext4Needs& needs) {
  const uint64_t usual = needs.content_bytes + needs.content_bytes / 4 + 64 * kMiB;
  const uint64_t least = DiskBytesMin(needs);
  return RoundUp(std::max(usual, least + least / 16), 16 * kMiB);
}

}  // namespace cowl
