// segment.h: a run of blocks as a lookup answers it. Units: blocks. Threads: value type.
#pragma once

#include <cstdint>

namespace cowl {

struct Segment {
  enum class Kind : uint8_t { kAbsent, kZero, kData };

  uint64_t start = 0;
  uint64_t length = 0;
  Kind kind = Kind::kAbsent;
  uint32_t source = 0;    // whose: an index the map's owner gives meaning to
  uint64_t physical = 0;  // kData: first block in the source's data file

  uint64_t end() const { return start + length; }
  // The part in [begin, end_block), which must overlap this segment.
  Segment Slice(uint64_t begin, uint64_t end_block) const {
    return {begin, end_block - begin, kind, source,
            kind == Kind::kData ? physical + (begin - start) : 0};
  }
  // True when `next` continues this segment.
  bool JoinsWith(const Segment& next) const {
    return end() == next.start && kind == next.kind && source == next.source &&
           (kind != Kind::kData || physical + length == next.physical);
  }
  bool operator==(const Segment&) const = default;
};

}  // namespace cowl
