// block_device.h: what a disk is to those who serve it: the NBD server, import and export,
// attachments. Units: bytes, any alignment, within [0, size_bytes). Threads: all calls on the loop
// that the device belongs to; many may be in flight. Ownership: the caller keeps buffers until the
// task ends, and the device until all its tasks have ended. Errors: absl::Status.
// ResourceExhausted: no space, or the cap is reached (StatusErrno gives ENOSPC). DataLoss: a block
// failed its checksum. PermissionDenied: read-only. OutOfRange and InvalidArgument: the caller's
// mistake, nothing was done. Order: requests in flight together may take effect in either order; a
// request started after another was answered, after it. Durability: an answered write survives the
// process; what was answered before a Flush began survives the machine once that Flush has
// succeeded. With `fua` the answer itself means durable.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/task.h"

namespace cowl {

struct WriteOptions {
  bool fua = false;
};

struct ZeroOptions {
  bool fua = false;
  bool no_hole = false;    // the range stays allocated: writes to it later cannot run out of space
  bool fast_only = false;  // refuse (Unimplemented) when this would be no faster than writing zeros
};

// A run of bytes that come from one place.
struct MapExtent {
  enum class Type : uint8_t { kData, kZero };
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  Type type = Type::kZero;
  // 1: the top (overlay or top layer), 2 the one below, ...; 0: nobody has it, it reads as zeros.
  uint32_t depth = 0;
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;

  // A hint: reads that begin at these offsets come right away. What finding them needs may be
  // fetched into the CPU's cache, all at once, where one after the other would wait for memory
  // each.
  virtual void ExpectReads(std::span<const uint64_t> offsets_bytes) const {
    static_cast<void>(offsets_bytes);
  }
  virtual Task<absl::Status> Read(uint64_t offset_bytes, std::span<std::byte> into) = 0;
  virtual Task<absl::Status> Write(uint64_t offset_bytes, std::span<const std::byte> from,
                                   WriteOptions options) = 0;
  virtual Task<absl::Status> Flush() = 0;
  // A hint: whole blocks inside the range read as zeros afterwards; ragged edges stay as they are.
  virtual Task<absl::Status> Discard(uint64_t offset_bytes, uint64_t length_bytes,
                                     WriteOptions options) = 0;
  // Every byte of the range reads as zero afterwards.
  virtual Task<absl::Status> WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                         ZeroOptions options) = 0;
  // Asks for the range to be brought into the page cache.
  virtual Task<absl::Status> Prefetch(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // The extents that cover the range, in order, merged, at most `extents_max` (>= 1) of them: the
  // answer may end before the range does.
  virtual absl::StatusOr<std::vector<MapExtent>> Map(uint64_t offset_bytes, uint64_t length_bytes,
                                                     size_t extents_max) = 0;
};

}  // namespace cowl
