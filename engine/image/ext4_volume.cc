#include "image/ext4_volume.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "image/ext2fs_channel.h"

namespace cowl {
namespace {

// All times the file system itself has: 2024-01-01 00:00:00 UTC.
constexpr time_t kFixedTime = 1704067200;
constexpr std::array<uint8_t, 16> kFixedUuid = {0xc0, 0x31, 0x1a, 0x7e, 0x5d, 0x1b, 0x4e, 0x6f,
                                                0x9a, 0x42, 0x63, 0x6f, 0x77, 0x6c, 0x00, 0x01};
constexpr DirectoryHashSeed kFixedHashSeed = {0x636f776c, 0x4c617965, 0x72732031, 0x9e3779b9};

absl::Status Ext2Error(errcode_t code, std::string_view operation) {
  const std::string message = absl::StrCat(Absl(operation), ": ", Ext2fsErrorText(code));
  switch (code) {
    case EXT2_ET_BLOCK_ALLOC_FAIL:
    case EXT2_ET_INODE_ALLOC_FAIL:
    case EXT2_ET_DIR_NO_SPACE:
    case EXT2_ET_TOOSMALL:
    case EXT2_ET_TOO_MANY_INODES:
      return OutOfSpace(message);
    default:
      return Internal(message);
  }
}

absl::Status Check(errcode_t code, std::string_view operation) {
  return code == 0 ? absl::OkStatus() : Ext2Error(code, operation);
}

ext2_super_block Parameters(const Ext4Layout& layout) {
  ext2_super_block super;
  std::memset(&super, 0, sizeof(super));
  super.s_rev_level = EXT2_DYNAMIC_REV;
  super.s_log_block_size = 2;  // 4,096
  super.s_inode_size = sizeof(Ext4Inode);
  super.s_inodes_count = layout.inode_count;
  super.s_log_groups_per_flex = 4;
  super.s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
  ext2fs_set_feature_xattr(&super);
  ext2fs_set_feature_dir_index(&super);
  // The resize inode counts blocks in 32 bits.
  if (layout.block_count <= 0xffffffff) ext2fs_set_feature_resize_inode(&super);
  ext2fs_set_feature_filetype(&super);
  ext2fs_set_feature_extents(&super);
  ext2fs_set_feature_64bit(&super);
  ext2fs_set_feature_flex_bg(&super);
  ext2fs_set_feature_sparse_super(&super);
  ext2fs_set_feature_large_file(&super);
  ext2fs_set_feature_huge_file(&super);
  ext2fs_set_feature_dir_nlink(&super);
  ext2fs_set_feature_extra_isize(&super);
  ext2fs_set_feature_metadata_csum(&super);
  ext2fs_blocks_count_set(&super, layout.block_count);
  return super;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ext4Volume>> Ext4Volume::Create(BlockSink& sink,
                                                               const Ext4Layout& layout) {
  std::unique_ptr<Ext4Volume> volume(new Ext4Volume(sink));
  COWL_RETURN_IF_ERROR(volume->Format(layout));
  return volume;
}

Ext4Volume::~Ext4Volume() {
  if (fs_ != nullptr) ext2fs_free(fs_);
}

void Ext4Volume::SetFixedFields() {
  ext2_super_block& super = *fs_->super;
  fs_->now = kFixedTime;
  super.s_mkfs_time = super.s_lastcheck = kFixedTime;
  super.s_max_mnt_count = -1;
  std::ranges::copy(kFixedUuid, super.s_uuid);
  static_assert(sizeof(super.s_hash_seed) == sizeof(kFixedHashSeed));
  std::memcpy(super.s_hash_seed, kFixedHashSeed.data(), sizeof(super.s_hash_seed));
  super.s_def_hash_version = EXT2_HASH_HALF_MD4;
  super.s_flags = EXT2_FLAGS_SIGNED_HASH;  // whatever sign a char has here
  super.s_checksum_type = EXT2_CRC32C_CHKSUM;
  ext2fs_init_csum_seed(fs_);
}

absl::Status Ext4Volume::Format(const Ext4Layout& layout) {
  ext2_super_block parameters = Parameters(layout);
  COWL_RETURN_IF_ERROR(Check(ext2fs_initialize(channel_.DeviceName().c_str(), EXT2_FLAG_64BITS,
                                               &parameters, Ext4Channel::Manager(), &fs_),
                             "lay out an ext4"));
  SetFixedFields();
  COWL_RETURN_IF_ERROR(Check(ext2fs_allocate_tables(fs_), "place an ext4's tables"));
  for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
    // True of a new disk; otherwise the first mount would write zeros over all of them.
    ext2fs_bg_flags_set(fs_, group, EXT2_BG_INODE_ZEROED);
    ext2fs_group_desc_csum_set(fs_, group);
  }
  return MakeReservedInodes(layout);
}

absl::Status Ext4Volume::MakeReservedInodes(const Ext4Layout& layout) {
  for (uint32_t inode = 1; inode < fs_->super->s_first_ino; ++inode) {
    Ext4Inode empty;
    empty.bytes = {};
    COWL_RETURN_IF_ERROR(WriteInode(inode, empty));  // for its checksum
    TakeInode(inode, inode == kRootInode);
  }
  if (ext2fs_has_feature_resize_inode(fs_->super)) {
    COWL_RETURN_IF_ERROR(Check(ext2fs_create_resize_inode(fs_), "make the inode for growing"));
  }
  SetOverhead(layout);
  if (layout.journal_blocks == 0) return absl::OkStatus();
  return Check(ext2fs_add_journal_inode2(fs_, layout.journal_blocks, 0,
                                         EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK),
               "make the journal");
}

// What statfs takes off the size, as the kernel counts it: superblocks, descriptors and
// their room to grow, bitmaps, inode tables, the journal. Where it is absent or wrong, the first
// mount counts and writes it into every copy of the superblock: a block each, in the overlay of
// each container.
void Ext4Volume::SetOverhead(const Ext4Layout& layout) {
  uint64_t blocks = layout.journal_blocks;
  for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
    blocks += 2 + fs_->inode_blocks_per_group;
    if (ext2fs_bg_has_super(fs_, group) != 0)
      blocks += 1 + fs_->desc_blocks + fs_->super->s_reserved_gdt_blocks;
  }
  fs_->super->s_overhead_clusters = static_cast<uint32_t>(blocks);
}

uint64_t Ext4Volume::free_blocks() const { return ext2fs_free_blocks_count(fs_->super); }

const DirectoryHashSeed& Ext4Volume::hash_seed() const { return kFixedHashSeed; }

absl::StatusOr<BlockRun> Ext4Volume::Allocate(uint64_t count_max) {
  const uint64_t last = ext2fs_blocks_count(fs_->super) - 1;
  blk64_t begin = 0;
  if (cursor_ > last ||
      ext2fs_find_first_zero_block_bitmap2(fs_->block_map, cursor_, last, &begin) != 0) {
    return OutOfSpace("the file system is full");
  }
  const uint64_t end_max = std::min<uint64_t>(begin + count_max - 1, last);
  blk64_t end = 0;
  if (ext2fs_find_first_set_block_bitmap2(fs_->block_map, begin, end_max, &end) != 0)
    end = end_max + 1;
  ext2fs_block_alloc_stats_range(fs_, begin, static_cast<blk_t>(end - begin), 1);
  cursor_ = end;
  return BlockRun{begin, end - begin};
}

absl::Status Ext4Volume::SignDirectory(uint32_t inode, std::span<std::byte> blocks) {
  for (; !blocks.empty(); blocks = blocks.subspan(kBlockBytes)) {
    COWL_RETURN_IF_ERROR(Check(
        ext2fs_dir_block_csum_set(fs_, inode, reinterpret_cast<ext2_dir_entry*>(blocks.data())),
        "checksum a directory"));
  }
  return absl::OkStatus();
}

absl::Status Ext4Volume::SignExtentBlock(uint32_t inode, std::span<std::byte> block) {
  return Check(
      ext2fs_extent_block_csum_set(fs_, inode, reinterpret_cast<ext3_extent_header*>(block.data())),
      "checksum an extent tree");
}

absl::Status Ext4Volume::WriteInode(uint32_t inode, Ext4Inode& content) {
  return Check(ext2fs_write_inode_full(fs_, inode, content.small(), sizeof(content)),
               "write an inode");
}

absl::Status Ext4Volume::WriteXattrs(uint32_t inode, const std::vector<Xattr>& xattrs) {
  ext2_xattr_handle* handle = nullptr;
  COWL_RETURN_IF_ERROR(Check(ext2fs_xattrs_open(fs_, inode, &handle), "write attributes"));
  absl::Status status;
  for (const Xattr& xattr : xattrs) {
    const errcode_t code =
        ext2fs_xattr_set(handle, xattr.name.c_str(), xattr.value.data(), xattr.value.size());
    if (code == 0) continue;
    const std::string what =
        absl::StrCat("the attribute ", xattr.name, " of ", xattr.value.size(), " bytes");
    status =
        code == EXT2_ET_EA_NO_SPACE
            ? InvalidArgument(absl::StrCat(
                  what,
                  " does not fit: ext4 keeps all attributes of a file in one block of 4096 bytes"))
            : Ext2Error(code, absl::StrCat("write ", what));
    break;
  }
  ext2fs_xattrs_close(&handle);
  return status;
}

absl::Status Ext4Volume::Finish() {
  COWL_RETURN_IF_ERROR(Check(ext2fs_close_free(&fs_), "write the file system's tables"));
  return channel_.Flush();
}

}  // namespace cowl
