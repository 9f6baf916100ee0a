// ext4_disk.h: an ext4 on a disk that is only read: opened by libext2fs, with what recovery of its
// journal would write laid over it in memory.
// Units: bytes of the disk; blocks are the file system's. Ownership: the source outlives it.
// Threads: one; calls block. Memory: some 40 bytes a superseded block, of which the journal bounds
// the number; group descriptors and bitmaps are libext2fs's.
// Errors: FailedPrecondition: no ext4 there, or one with features that this cannot read. DataLoss:
// damaged. What the source says of its own reads comes through as it is.
#pragma once

#include <ext2fs/ext2fs.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "image/block_source.h"

namespace cowl {

class Ext4Disk {
 public:
  static absl::StatusOr<std::unique_ptr<Ext4Disk>> Open(BlockSource& source);
  ~Ext4Disk();
  Ext4Disk(const Ext4Disk&) = delete;
  Ext4Disk& operator=(const Ext4Disk&) = delete;

  ext2_filsys fs() const { return fs_; }
  uint32_t block_bytes() const { return fs_->blocksize; }
  uint64_t block_count() const;

  // OK, or why libext2fs failed at `doing`: what a read of the source said, where it was that.
  absl::Status Check(errcode_t code, const std::string& doing) const;

  // What libext2fs reads; called by its io_manager.
  errcode_t Read(uint64_t offset_bytes, std::span<std::byte> into);

 private:
  explicit Ext4Disk(BlockSource& source) : source_(source) {}
  // Before anything is made as large as the superblock says.
  absl::Status CheckSize();
  absl::Status OpenFileSystem();
  void CloseFileSystem();
  absl::Status LayJournalOver();
  absl::StatusOr<std::vector<uint64_t>> JournalBlocks();

  absl::Status ReadPatch(uint64_t at_bytes, bool is_escaped, std::span<std::byte> into);

  // Where the present content of a block is.
  struct Patch {
    uint64_t at_bytes = 0;
    bool is_escaped = false;
  };

  BlockSource& source_;
  ext2_filsys fs_ = nullptr;
  uint32_t patched_block_bytes_ = 0;
  std::unordered_map<uint64_t, Patch> patches_;  // by block
  absl::Status read_failure_;
};

}  // namespace cowl
