#include "image/ext2fs_channel.h"

#include <com_err.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace cowl {
namespace {

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

errcode_t FlushNothing(io_channel) { return 0; }

}  // namespace

std::string Ext2fsDeviceName(const void* disk) {
  char name[32];
  std::snprintf(name, sizeof(name), "cowl-%p", disk);
  return name;
}

errcode_t OpenExt2fsChannel(const char* name, io_manager manager, io_channel* result) {
  void* disk = nullptr;
  if (std::sscanf(name, "cowl-%p", &disk) != 1) return EXT2_ET_BAD_DEVICE_NAME;
  auto* const io = static_cast<io_channel>(std::calloc(1, sizeof(struct_io_channel)));
  if (io == nullptr) return EXT2_ET_NO_MEMORY;
  io->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  io->manager = manager;
  io->name = strdup(name);
  io->block_size = 1024;
  io->refcount = 1;
  io->private_data = disk;
  *result = io;
  return 0;
}

struct_io_manager MakeExt2fsManager(const char* name) {
  struct_io_manager manager{};
  manager.magic = EXT2_ET_MAGIC_IO_MANAGER;
  manager.name = name;
  manager.close = CloseChannel;
  manager.set_blksize = SetBlockSize;
  manager.flush = FlushNothing;
  return manager;
}

uint64_t Ext2fsLengthBytes(io_channel channel, int count) {
  return count < 0 ? static_cast<uint64_t>(-static_cast<int64_t>(count))
                   : static_cast<uint64_t>(count) * static_cast<uint64_t>(channel->block_size);
}

uint64_t Ext2fsOffsetBytes(io_channel channel, unsigned long long block) {
  return block * static_cast<uint64_t>(channel->block_size);
}

std::string Ext2fsErrorText(errcode_t code) {
  static std::once_flag once;
  std::call_once(once, [] { initialize_ext2_error_table(); });
  return error_message(code);
}

}  // namespace cowl
