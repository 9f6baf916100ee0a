// byte_ranges.h: parts of a disk, and who owns how much of them.
// Units: bytes, ranges are [begin, end). Threads: value types. Errors: none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

namespace cowl {

struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;

  uint64_t length() const { return end - begin; }
  bool operator==(const ByteRange&) const = default;
};

// Sorted, disjoint, neighbours joined. Searched, not changed.
class ByteRanges {
 public:
  ByteRanges() = default;
  // In any order, overlapping or not.
  explicit ByteRanges(std::vector<ByteRange> ranges);

  const std::vector<ByteRange>& ranges() const { return ranges_; }
  uint64_t length() const;
  bool Intersects(ByteRange with) const { return First(with) != ranges_.end(); }
  // What of `with` lies in these ranges, in order.
  void Visit(ByteRange with, const std::function<void(ByteRange)>& visit) const;

 private:
  // The first that `with` touches, or the end.
  std::vector<ByteRange>::const_iterator First(ByteRange with) const;

  std::vector<ByteRange> ranges_;
};

// Says that a range belongs to `owner`.
struct Claim {
  ByteRange range;
  uint32_t owner = 0;
};

// Gives each byte of `ranges` to the first who claims it (by where the claim begins, then by their
// order in `claims`), calls `give(owner, bytes)` for it, and returns what nobody claims.
ByteRanges Share(const ByteRanges& ranges, std::vector<Claim> claims,
                 const std::function<void(uint32_t owner, uint64_t bytes)>& give);

}  // namespace cowl
