#include "image/ext4_channel.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "image/copy.h"
#include "image/ext2fs_channel.h"

namespace cowl {
namespace {

Ext4Channel& ChannelOf(io_channel channel) {
  return *static_cast<Ext4Channel*>(channel->private_data);
}

errcode_t OpenChannel(const char* name, int, io_channel* result) {
  return OpenExt2fsChannel(name, Ext4Channel::Manager(), result);
}

errcode_t ReadBlocks(io_channel channel, unsigned long long block, int count, void* data) {
  ChannelOf(channel).Read(Ext2fsOffsetBytes(channel, block),
                          {static_cast<std::byte*>(data), Ext2fsLengthBytes(channel, count)});
  return 0;
}

errcode_t WriteBlocks(io_channel channel, unsigned long long block, int count, const void* data) {
  ChannelOf(channel).Write(Ext2fsOffsetBytes(channel, block), {static_cast<const std::byte*>(data),
                                                               Ext2fsLengthBytes(channel, count)});
  return 0;
}

errcode_t ReadBlocks32(io_channel channel, unsigned long block, int count, void* data) {
  return ReadBlocks(channel, block, count, data);
}

errcode_t WriteBlocks32(io_channel channel, unsigned long block, int count, const void* data) {
  return WriteBlocks(channel, block, count, data);
}

errcode_t WriteBytes(io_channel channel, unsigned long offset, int size, const void* data) {
  ChannelOf(channel).Write(offset,
                           {static_cast<const std::byte*>(data), static_cast<size_t>(size)});
  return 0;
}

errcode_t ZeroBlocks(io_channel channel, unsigned long long block, unsigned long long count) {
  ChannelOf(channel).Zero(Ext2fsOffsetBytes(channel, block), Ext2fsOffsetBytes(channel, count));
  return 0;
}

errcode_t NoOption(io_channel, const char*, const char*) { return EXT2_ET_INVALID_ARGUMENT; }

struct_io_manager MakeManager() {
  struct_io_manager manager = MakeExt2fsManager("cowl");
  manager.open = OpenChannel;
  manager.read_blk = ReadBlocks32;
  manager.write_blk = WriteBlocks32;
  manager.write_byte = WriteBytes;
  manager.set_option = NoOption;
  manager.read_blk64 = ReadBlocks;
  manager.write_blk64 = WriteBlocks;
  manager.discard = ZeroBlocks;
  manager.zeroout = ZeroBlocks;
  return manager;
}

// Calls `visit(block, offset in the block, length, bytes done before)` for each block that [offset,
// offset + length) touches.
template <typename Visit>
void ForEachBlock(uint64_t offset_bytes, uint64_t length_bytes, Visit visit) {
  for (uint64_t done = 0; done < length_bytes;) {
    const uint64_t at = offset_bytes + done;
    const uint64_t within = at % kBlockBytes;
    const uint64_t length = std::min<uint64_t>(kBlockBytes - within, length_bytes - done);
    visit(BlocksFloor(at), within, length, done);
    done += length;
  }
}

}  // namespace

io_manager Ext4Channel::Manager() {
  static struct_io_manager manager = MakeManager();
  return &manager;
}

std::string Ext4Channel::DeviceName() const { return Ext2fsDeviceName(this); }

void Ext4Channel::Read(uint64_t offset_bytes, std::span<std::byte> into) const {
  ForEachBlock(offset_bytes, into.size(),
               [&](uint64_t block, uint64_t within, uint64_t length, uint64_t done) {
                 const auto found = blocks_.find(block);
                 if (found == blocks_.end()) {
                   std::memset(into.data() + done, 0, length);
                 } else {
                   std::memcpy(into.data() + done, found->second->data() + within, length);
                 }
               });
}

void Ext4Channel::Write(uint64_t offset_bytes, std::span<const std::byte> from) {
  ForEachBlock(offset_bytes, from.size(),
               [&](uint64_t block, uint64_t within, uint64_t length, uint64_t done) {
                 std::unique_ptr<Block>& held = blocks_[block];
                 if (held == nullptr) held = std::make_unique<Block>();
                 std::memcpy(held->data() + within, from.data() + done, length);
               });
}

void Ext4Channel::Zero(uint64_t offset_bytes, uint64_t length_bytes) {
  // Nothing is on the disk yet that would have to be overwritten. Journals are long, so go by what
  // is held.
  const uint64_t end = offset_bytes + length_bytes;
  std::erase_if(blocks_, [&](const auto& held) {
    const uint64_t at = BlockOffsetBytes(held.first);
    return at >= offset_bytes && at + kBlockBytes <= end;
  });
}

absl::Status Ext4Channel::Flush() {
  std::vector<uint64_t> order;
  order.reserve(blocks_.size());
  for (const auto& [block, held] : blocks_) {
    if (!IsZero(*held)) order.push_back(block);
  }
  std::ranges::sort(order);
  std::vector<std::byte> run;
  run.reserve(kCopyRunBytes);
  for (size_t i = 0; i < order.size(); ++i) {
    const Block& held = *blocks_[order[i]];
    run.insert(run.end(), held.begin(), held.end());
    const bool run_goes_on =
        i + 1 < order.size() && order[i + 1] == order[i] + 1 && run.size() < kCopyRunBytes;
    if (run_goes_on) continue;
    COWL_RETURN_IF_ERROR(sink_.Write(order[i] + 1 - run.size() / kBlockBytes, run));
    run.clear();
  }
  blocks_.clear();
  return absl::OkStatus();
}

}  // namespace cowl
