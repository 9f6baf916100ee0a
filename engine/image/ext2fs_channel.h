// ext2fs_channel.h: what every disk of ours that libext2fs is given has in common: how it is found
// by a name, its io_channel, and errors as text. Reading and writing are the disk's own. Units:
// bytes. Ownership: the disk outlives the ext2_filsys opened on it, which owns the io_channel.
// Threads: any. Errors: libext2fs's.
#pragma once

#include <ext2fs/ext2fs.h>

#include <cstdint>
#include <string>

namespace cowl {

// The device's name says where the disk lives in this process: libext2fs offers no other way in.
std::string Ext2fsDeviceName(const void* disk);

// An io_manager's open: a channel on the disk that `name` names, which becomes its private_data.
errcode_t OpenExt2fsChannel(const char* name, io_manager manager, io_channel* result);

// An io_manager with all but open, reads and writes.
struct_io_manager MakeExt2fsManager(const char* name);

// libext2fs counts in blocks of the channel's size; a negative count is one of bytes.
uint64_t Ext2fsLengthBytes(io_channel channel, int count);
uint64_t Ext2fsOffsetBytes(io_channel channel, unsigned long long block);

std::string Ext2fsErrorText(errcode_t code);

}  // namespace cowl
