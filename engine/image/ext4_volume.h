// ext4_volume.h: a new ext4 on a sink: made by libext2fs without a mount, a device or root's
// rights. Deterministic: UUID, hash seed and all times of its own are fixed, so the same layout and
// the same calls give the same bytes. Features are those of mke2fs for ext4. The disk is taken to
// be zeros, so neither journal nor inode tables are written. Ownership: the sink must outlive it.
// Threads: one. Errors: absl::Status; what the sink said where it was the sink.
#pragma once

#include <ext2fs/ext2fs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "image/block_sink.h"
#include "image/ext4_channel.h"
#include "image/ext4_directory.h"
#include "image/ext4_plan.h"

namespace cowl {

// A run of blocks on the disk.
struct BlockRun {
  uint64_t begin = 0;
  uint64_t count = 0;
};

// An inode of 256 bytes, all of it.
union Ext4Inode {
  ext2_inode_large fields;
  std::array<std::byte, 256> bytes{};

  ext2_inode* small() { return reinterpret_cast<ext2_inode*>(&fields); }
};

inline constexpr uint32_t kRootInode = EXT2_ROOT_INO;
inline constexpr uint32_t kLostAndFoundInode = EXT2_GOOD_OLD_FIRST_INO;

class Ext4Volume {
 public:
  static absl::StatusOr<std::unique_ptr<Ext4Volume>> Create(BlockSink& sink,
                                                            const Ext4Layout& layout);
  Ext4Volume(const Ext4Volume&) = delete;
  Ext4Volume& operator=(const Ext4Volume&) = delete;
  ~Ext4Volume();

  uint64_t free_blocks() const;
  uint32_t inode_count() const { return fs_->super->s_inodes_count; }
  const DirectoryHashSeed& hash_seed() const;

  // Takes the next free blocks, at most `count_max` (>= 1), in one run. ResourceExhausted when
  // there are none.
  absl::StatusOr<BlockRun> Allocate(uint64_t count_max);
  // Contents of allocated blocks: straight to the sink.
  absl::Status WriteData(uint64_t block, std::span<const std::byte> data) {
    return sink_.Write(block, data);
  }
  // Sets the checksums of directory blocks of `inode`, whose inode was written before. `blocks` are
  // whole blocks.
  absl::Status SignDirectory(uint32_t inode, std::span<std::byte> blocks);
  absl::Status SignExtentBlock(uint32_t inode, std::span<std::byte> block);

  // Marks an inode that was free as taken.
  void TakeInode(uint32_t inode, bool is_directory) {
    ext2fs_inode_alloc_stats2(fs_, inode, 1, is_directory);
  }
  absl::Status WriteInode(uint32_t inode, Ext4Inode& content);
  // Of an inode that was written before. InvalidArgument when they do not fit into a block.
  absl::Status WriteXattrs(uint32_t inode, const std::vector<Xattr>& xattrs);
  // Counts `blocks` into an inode's i_blocks.
  void CountBlocks(Ext4Inode& content, uint64_t blocks) {
    ext2fs_iblk_set(fs_, content.small(), blocks);
  }

  // Writes all metadata. Once, last.
  absl::Status Finish();

 private:
  explicit Ext4Volume(BlockSink& sink) : sink_(sink), channel_(sink) {}
  absl::Status Format(const Ext4Layout& layout);
  void SetOverhead(const Ext4Layout& layout);
  absl::Status MakeReservedInodes(const Ext4Layout& layout);
  void SetFixedFields();

  BlockSink& sink_;
  Ext4Channel channel_;
  ext2_filsys fs_ = nullptr;
  uint64_t cursor_ = 0;  // below it, Allocate has nothing left but what others freed
};

}  // namespace cowl
