// units.h: the block, and conversions between bytes and blocks.
// Units: every name carries its own. A block is 4,096 bytes, the unit of copy-on-write.
#pragma once

#include <cstdint>

namespace cowl {

inline constexpr uint32_t kBlockBytes = 4096;
inline constexpr uint32_t kBlockShift = 12;
inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;
inline constexpr uint64_t kTiB = 1024 * kGiB;

// The sizes a device may have: a multiple of a sector, from one sector to 64 TiB.
inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint64_t kDeviceBytesMin = kSectorBytes;
inline constexpr uint64_t kDeviceBytesMax = 64 * kTiB;

constexpr uint64_t BlocksFloor(uint64_t bytes) { return bytes >> kBlockShift; }
constexpr uint64_t BlocksCeil(uint64_t bytes) { return (bytes + kBlockBytes - 1) >> kBlockShift; }
constexpr uint64_t BlockOffsetBytes(uint64_t block) { return block << kBlockShift; }
constexpr uint64_t RoundUp(uint64_t value, uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace cowl
