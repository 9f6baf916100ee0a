// ext4_channel.h: the disk as libext2fs sees it: an io_manager whose metadata stays in memory until
// the end. libext2fs writes the same inode tables, bitmaps and superblocks again and again; each of
// their blocks reaches the sink once, in order, by Flush. File contents do not come this way: the
// importer writes them to the sink itself. Memory: 4 KiB a metadata block that is not zero: about
// 256 bytes a file. Ownership: the sink must outlive it; it must outlive the ext2_filsys opened on
// it. Threads: one.
#pragma once

#include <ext2fs/ext2fs.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "absl/status/status.h"
#include "base/units.h"
#include "image/block_sink.h"

namespace cowl {

class Ext4Channel {
 public:
  explicit Ext4Channel(BlockSink& sink) : sink_(sink) {}
  Ext4Channel(const Ext4Channel&) = delete;
  Ext4Channel& operator=(const Ext4Channel&) = delete;

  // For ext2fs_initialize, which gets the io_manager and, as the device's name, what names this
  // channel.
  static io_manager Manager();
  std::string DeviceName() const;

  // Bytes of the disk; never written ones are zeros. Whole metadata only.
  void Read(uint64_t offset_bytes, std::span<std::byte> into) const;
  void Write(uint64_t offset_bytes, std::span<const std::byte> from);
  void Zero(uint64_t offset_bytes, uint64_t length_bytes);

  absl::Status Flush();

 private:
  using Block = std::array<std::byte, kBlockBytes>;

  BlockSink& sink_;
  std::unordered_map<uint64_t, std::unique_ptr<Block>> blocks_;
};

}  // namespace cowl
