#include "device/memory_device.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

absl::Status CheckRange(uint64_t offset_bytes, uint64_t length_bytes, uint64_t size_bytes) {
  if (offset_bytes <= size_bytes && length_bytes <= size_bytes - offset_bytes)
    return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(length_bytes, " bytes at ", offset_bytes,
                                            " end beyond the disk's ", size_bytes));
}

absl::Status CheckWrite(bool read_only, uint64_t offset_bytes, uint64_t length_bytes,
                        uint64_t size_bytes) {
  if (read_only) return absl::PermissionDeniedError("the disk is read-only");
  return CheckRange(offset_bytes, length_bytes, size_bytes);
}

void Fill(std::vector<std::byte>& bytes, uint64_t begin, uint64_t end) {
  if (begin < end) std::memset(bytes.data() + begin, 0, end - begin);
}

}  // namespace

Task<absl::Status> MemoryDevice::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  COWL_CO_RETURN_IF_ERROR(CheckRange(offset_bytes, into.size(), size_bytes()));
  if (!into.empty()) std::memcpy(into.data(), bytes_.data() + offset_bytes, into.size());
  co_return absl::OkStatus();
}

Task<absl::Status> MemoryDevice::Write(uint64_t offset_bytes, std::span<const std::byte> from,
                                       WriteOptions) {
  COWL_CO_RETURN_IF_ERROR(CheckWrite(read_only_, offset_bytes, from.size(), size_bytes()));
  if (!from.empty()) std::memcpy(bytes_.data() + offset_bytes, from.data(), from.size());
  co_return absl::OkStatus();
}

Task<absl::Status> MemoryDevice::Flush() {
  ++flush_count_;
  co_return absl::OkStatus();
}

Task<absl::Status> MemoryDevice::Discard(uint64_t offset_bytes, uint64_t length_bytes,
                                         WriteOptions) {
  COWL_CO_RETURN_IF_ERROR(CheckWrite(read_only_, offset_bytes, length_bytes, size_bytes()));
  Fill(bytes_, RoundUp(offset_bytes, kBlockBytes),
       BlockOffsetBytes(BlocksFloor(offset_bytes + length_bytes)));
  co_return absl::OkStatus();
}

Task<absl::Status> MemoryDevice::WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                             ZeroOptions) {
  COWL_CO_RETURN_IF_ERROR(CheckWrite(read_only_, offset_bytes, length_bytes, size_bytes()));
  Fill(bytes_, offset_bytes, offset_bytes + length_bytes);
  co_return absl::OkStatus();
}

Task<absl::Status> MemoryDevice::Prefetch(uint64_t offset_bytes, uint64_t length_bytes) {
  co_return CheckRange(offset_bytes, length_bytes, size_bytes());
}

// There is no map: a block is zero when its bytes are.
absl::StatusOr<std::vector<MapExtent>> MemoryDevice::Map(uint64_t offset_bytes,
                                                         uint64_t length_bytes,
                                                         size_t extents_max) {
  COWL_RETURN_IF_ERROR(CheckRange(offset_bytes, length_bytes, size_bytes()));
  std::vector<MapExtent> extents;
  const uint64_t end = offset_bytes + length_bytes;
  for (uint64_t at = offset_bytes; at < end;) {
    const uint64_t block_begin = BlockOffsetBytes(BlocksFloor(at));
    const uint64_t block_end = std::min<uint64_t>(block_begin + kBlockBytes, size_bytes());
    const bool is_zero = IsZero(std::span(bytes_).subspan(block_begin, block_end - block_begin));
    const auto type = is_zero ? MapExtent::Type::kZero : MapExtent::Type::kData;
    const uint64_t run_end = std::min(block_end, end);
    if (!extents.empty() && extents.back().type == type) {
      extents.back().length_bytes += run_end - at;
    } else if (extents.size() == extents_max) {
      break;
    } else {
      extents.push_back({at, run_end - at, type, is_zero ? 0u : 1u});
    }
    at = run_end;
  }
  return extents;
}

}  // namespace cowl
