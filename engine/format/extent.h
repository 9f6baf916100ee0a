// extent.h: one run of blocks of a disk and where its content is: 16 bytes, in memory as on disk.
// Units: blocks. Threads: value type. Errors: IsValid tells whether bytes from disk form an extent;
// the getters assume it.
//
//   word 0   bits 63..30 start (34 bits: 64 TiB)    bits 29..0 length - 1 (30 bits: 4 TiB)
//   word 1   bits 63..62 type (1 data, 2 zero)      bits 61..56 zero
//            bits 55..36 source (20 bits: index into a table that stands beside the extents)
//            bits 35..0  first block in that source's data file (0 for zero extents)
//
// Sorting by word 0 sorts by start.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace cowl {

enum class ExtentType : uint8_t { kData = 1, kZero = 2 };

class Extent {
 public:
  static constexpr uint64_t kStartLimit = 1ull << 34;
  static constexpr uint64_t kLengthMax = 1ull << 30;
  static constexpr uint64_t kSourceLimit = 1ull << 20;
  static constexpr uint64_t kPhysicalLimit = 1ull << 36;

  Extent() = default;
  static Extent Data(uint64_t start, uint64_t length, uint64_t source, uint64_t physical) {
    return {Word0(start, length), 1ull << 62 | source << 36 | physical};
  }
  static Extent Zero(uint64_t start, uint64_t length, uint64_t source) {
    return {Word0(start, length), 2ull << 62 | source << 36};
  }

  uint64_t start() const { return word0_ >> 30; }
  uint64_t length() const { return (word0_ & (kLengthMax - 1)) + 1; }
  uint64_t end() const { return start() + length(); }
  bool is_data() const { return word1_ >> 62 == 1; }
  ExtentType type() const { return static_cast<ExtentType>(word1_ >> 62); }
  uint64_t source() const { return word1_ >> 36 & (kSourceLimit - 1); }
  uint64_t physical() const { return word1_ & (kPhysicalLimit - 1); }

  bool IsValid() const {
    const uint64_t type = word1_ >> 62;
    const bool reserved_is_zero = (word1_ >> 56 & 0x3f) == 0;
    const bool is_placed =
        type == 1 ? physical() + length() <= kPhysicalLimit : type == 2 && physical() == 0;
    return reserved_is_zero && is_placed && end() <= kStartLimit;
  }
  // The part of this extent in [begin, end), which must overlap it.
  Extent Slice(uint64_t begin, uint64_t end_block, uint64_t new_source) const {
    return is_data() ? Data(begin, end_block - begin, new_source, physical() + (begin - start()))
                     : Zero(begin, end_block - begin, new_source);
  }
  // True when `next` continues this one, so that both can be one extent.
  bool JoinsWith(const Extent& next) const {
    return end() == next.start() && type() == next.type() && source() == next.source() &&
           (!is_data() || physical() + length() == next.physical()) &&
           length() + next.length() <= kLengthMax;
  }
  bool operator==(const Extent&) const = default;

 private:
  Extent(uint64_t word0, uint64_t word1) : word0_(word0), word1_(word1) {}
  static uint64_t Word0(uint64_t start, uint64_t length) { return start << 30 | (length - 1); }

  uint64_t word0_ = 0;
  uint64_t word1_ = 0;
};

static_assert(sizeof(Extent) == 16);
static_assert(Extent::kStartLimit * kBlockBytes == kDeviceBytesMax);

}  // namespace cowl
