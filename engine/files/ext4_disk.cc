#include "files/ext4_disk.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "files/journal_replay.h"
#include "image/ext2fs_channel.h"

namespace cowl {
namespace {

io_manager Manager();

errcode_t OpenChannel(const char* name, int, io_channel* result) {
  return OpenExt2fsChannel(name, Manager(), result);
}

errcode_t ReadBlocks(io_channel channel, unsigned long long block, int count, void* data) {
  return static_cast<Ext4Disk*>(channel->private_data)
      ->Read(Ext2fsOffsetBytes(channel, block),
             {static_cast<std::byte*>(data), Ext2fsLengthBytes(channel, count)});
}

errcode_t ReadBlocks32(io_channel channel, unsigned long block, int count, void* data) {
  return ReadBlocks(channel, block, count, data);
}

errcode_t RefuseToWrite(io_channel, unsigned long, int, const void*) { return EXT2_ET_RO_FILSYS; }

errcode_t RefuseToWrite64(io_channel, unsigned long long, int, const void*) {
  return EXT2_ET_RO_FILSYS;
}

struct_io_manager MakeManager() {
  struct_io_manager manager = MakeExt2fsManager("cowl read-only");
  manager.open = OpenChannel;
  manager.read_blk = ReadBlocks32;
  manager.write_blk = RefuseToWrite;
  manager.read_blk64 = ReadBlocks;
  manager.write_blk64 = RefuseToWrite64;
  return manager;
}

absl::Status NoFileSystem() {
  return FailedPrecondition("there is no ext4 file system on it (no superblock at byte 1024)");
}

io_manager Manager() {
  static struct_io_manager manager = MakeManager();
  return &manager;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Ext4Disk>> Ext4Disk::Open(BlockSource& source) {
  std::unique_ptr<Ext4Disk> disk(new Ext4Disk(source));
  COWL_RETURN_IF_ERROR(disk->CheckSize());
  COWL_RETURN_IF_ERROR(disk->OpenFileSystem());
  if (ext2fs_has_feature_journal_needs_recovery(disk->fs_->super)) {
    COWL_RETURN_IF_ERROR(disk->LayJournalOver());
    // The superblock and the group descriptors may be among what the journal supersedes.
    disk->CloseFileSystem();
    COWL_RETURN_IF_ERROR(disk->OpenFileSystem());
  }
  return disk;
}

Ext4Disk::~Ext4Disk() { CloseFileSystem(); }

void Ext4Disk::CloseFileSystem() {
  if (fs_ != nullptr) ext2fs_free(fs_);
  fs_ = nullptr;
}

uint64_t Ext4Disk::block_count() const { return ext2fs_blocks_count(fs_->super); }

absl::Status Ext4Disk::CheckSize() {
  ext2_super_block super{};
  if (source_.size_bytes() < SUPERBLOCK_OFFSET + sizeof(super)) return NoFileSystem();
  COWL_RETURN_IF_ERROR(
      source_.Read(SUPERBLOCK_OFFSET, std::as_writable_bytes(std::span(&super, 1))));
  if (super.s_magic != EXT2_SUPER_MAGIC) return NoFileSystem();
  const bool is_too_large = super.s_log_block_size > 6 || ext2fs_blocks_count(&super) >
                                                              source_.size_bytes() >>
                                                              (10 + super.s_log_block_size);
  if (!is_too_large) return absl::OkStatus();
  return DataLoss("its ext4 is larger than the disk: it was cut off, or its superblock is damaged");
}

absl::Status Ext4Disk::OpenFileSystem() {
  const errcode_t code =
      ext2fs_open(Ext2fsDeviceName(this).c_str(), EXT2_FLAG_64BITS | EXT2_FLAG_JOURNAL_DEV_OK, 0, 0,
                  Manager(), &fs_);
  if (!read_failure_.ok()) return read_failure_;
  switch (code) {
    case 0:
      break;
    case EXT2_ET_BAD_MAGIC:
    case EXT2_ET_SHORT_READ:
      return NoFileSystem();
    case EXT2_ET_UNSUPP_FEATURE:
    case EXT2_ET_RO_UNSUPP_FEATURE:
      return FailedPrecondition("its ext4 has features that this version cannot read");
    default:
      return Check(code, "open its ext4");
  }
  if (ext2fs_has_feature_journal_dev(fs_->super))
    return FailedPrecondition("it is the journal of another disk's ext4, not a file system");
  return absl::OkStatus();
}

absl::Status Ext4Disk::Check(errcode_t code, const std::string& doing) const {
  if (!read_failure_.ok()) return read_failure_;
  if (code == 0) return absl::OkStatus();
  return DataLoss(absl::StrCat("its ext4 is damaged: cannot ", doing, ": ", Ext2fsErrorText(code)));
}

errcode_t Ext4Disk::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  const uint64_t end = offset_bytes + into.size();
  if (end < offset_bytes || end > source_.size_bytes()) return EXT2_ET_SHORT_READ;
  absl::Status status = source_.Read(offset_bytes, into);
  if (!status.ok()) {
    read_failure_ = std::move(status);
    return EXT2_ET_SHORT_READ;
  }
  if (patches_.empty()) return 0;
  std::vector<std::byte> content(patched_block_bytes_);
  for (uint64_t block = offset_bytes / patched_block_bytes_; block * patched_block_bytes_ < end;
       ++block) {
    const auto patch = patches_.find(block);
    if (patch == patches_.end()) continue;
    status = ReadPatch(patch->second.at_bytes, patch->second.is_escaped, content);
    if (!status.ok()) {
      read_failure_ = std::move(status);
      return EXT2_ET_SHORT_READ;
    }
    const uint64_t begin = block * patched_block_bytes_;
    const uint64_t from = std::max(begin, offset_bytes);
    const uint64_t to = std::min(begin + patched_block_bytes_, end);
    std::memcpy(into.data() + (from - offset_bytes), content.data() + (from - begin), to - from);
  }
  return 0;
}

absl::Status Ext4Disk::ReadPatch(uint64_t at_bytes, bool is_escaped, std::span<std::byte> into) {
  COWL_RETURN_IF_ERROR(source_.Read(at_bytes, into));
  if (is_escaped) Unescape(into);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint64_t>> Ext4Disk::JournalBlocks() {
  const ext2_ino_t inode = fs_->super->s_journal_inum;
  if (inode == 0)
    return FailedPrecondition("its journal is on another disk, and has to be replayed first");
  ext2_inode found{};
  COWL_RETURN_IF_ERROR(Check(ext2fs_read_inode(fs_, inode, &found), "read its journal's inode"));
  const uint64_t count = EXT2_I_SIZE(&found) / fs_->blocksize;
  if (count == 0 || count > block_count()) return DataLoss("its journal's size makes no sense");
  std::vector<uint64_t> blocks(count);
  for (uint64_t i = 0; i < count; ++i) {
    blk64_t block = 0;
    COWL_RETURN_IF_ERROR(Check(ext2fs_bmap2(fs_, inode, &found, nullptr, 0, i, nullptr, &block),
                               "find its journal's blocks"));
    if (block == 0) return DataLoss("its journal has a hole");
    blocks[i] = block;
  }
  return blocks;
}

absl::Status Ext4Disk::LayJournalOver() {
  COWL_ASSIGN_OR_RETURN(const std::vector<uint64_t> blocks, JournalBlocks());
  const uint32_t block_bytes = fs_->blocksize;
  JournalSource journal;
  journal.block_bytes = block_bytes;
  journal.block_count = static_cast<uint32_t>(blocks.size());
  journal.file_system_blocks = block_count();
  journal.read = [&](uint32_t block, std::span<std::byte> into) {
    if (block >= blocks.size()) return DataLoss("its journal names a block behind its end");
    return Check(Read(blocks[block] * block_bytes, into), "read its journal");
  };
  COWL_ASSIGN_OR_RETURN(const JournalCopies copies, ReplayJournal(journal));
  for (const auto& [block, copy] : copies)
    patches_[block] = {blocks[copy.journal_block] * block_bytes, copy.is_escaped};
  patched_block_bytes_ = block_bytes;
  return absl::OkStatus();
}

}  // namespace cowl
