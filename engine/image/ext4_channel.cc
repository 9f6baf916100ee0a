#include "image/ext4_channel.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "image/copy.h"

namespace cowl {
namespace {

Ext4Channel& ChannelOf(io_channel channel) {
  return *static_cast<Ext4Channel*>(channel->private_data);
}

// libext2fs counts in blocks of the channel's size; a negative count is one of bytes.
uint64_t LengthBytes(io_channel channel, int count) {
  return count < 0 ? static_cast<uint64_t>(-static_cast<int64_t>(count))
                   : static_cast<uint64_t>(count) * static_cast<uint64_t>(channel->block_size);
}

uint64_t OffsetBytes(io_channel channel, unsigned long long block) {
  return block * static_cast<uint64_t>(channel->block_size);
}

errcode_t OpenChannel(const char* name, int, io_channel* result) {
  // The device's name is where the channel lives in this process: libext2fs offers no other way in.
  void* channel = nullptr;
  if (std::sscanf(name, "cowl-%p", &channel) != 1) return EXT2_ET_BAD_DEVICE_NAME;
  auto* const io = static_cast<io_channel>(std::calloc(1, sizeof(struct_io_channel)));
  if (io == nullptr) return EXT2_ET_NO_MEMORY;
  io->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  io->manager = Ext4Channel::Manager();
  io->name = strdup(name);
  io->block_size = 1024;
  io->refcount = 1;
  io->private_data = channel;
  *result = io;
  return 0;
}

errcode_t CloseChannel(io_channel channel) {
  if (--channel->refcount > 0) return 0;
  std::free(channel->name);
  std::free(channel);
  return 0;
}

errcode_t SetBlockSize(io_channel channel, int block_size) {
  channel->block_size = block_size;
  return 0;
}

errcode_t ReadBlocks(io_channel channel, unsigned long long block, int count, void* data) {
  ChannelOf(channel).Read(OffsetBytes(channel, block),
                          {static_cast<std::byte*>(data), LengthBytes(channel, count)});
  return 0;
}

errcode_t WriteBlocks(io_channel channel, unsigned long long block, int count, const void* data) {
  ChannelOf(channel).Write(OffsetBytes(channel, block),
                           {static_cast<const std::byte*>(data), LengthBytes(channel, count)});
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
  ChannelOf(channel).Zero(OffsetBytes(channel, block), OffsetBytes(channel, count));
  return 0;
}

errcode_t FlushNothing(io_channel) { return 0; }

errcode_t NoOption(io_channel, const char*, const char*) { return EXT2_ET_INVALID_ARGUMENT; }

struct_io_manager MakeManager() {
  struct_io_manager manager{};
  manager.magic = EXT2_ET_MAGIC_IO_MANAGER;
  manager.name = "cowl";
  manager.open = OpenChannel;
  manager.close = CloseChannel;
  manager.set_blksize = SetBlockSize;
  manager.read_blk = ReadBlocks32;
  manager.write_blk = WriteBlocks32;
  manager.flush = FlushNothing;
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

std::string Ext4Channel::DeviceName() const {
  char name[32];
  std::snprintf(name, sizeof(name), "cowl-%p", static_cast<const void*>(this));
  return name;
}

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
