// extent_array.h: an immutable map: the sorted extents of a layer, of an overlay's checkpoint, or
// of a whole chain merged. Units: blocks; ranges are half-open. Invariant: sorted, disjoint, valid
// extents; neighbours that continue each other are one. Threads: immutable once built, safe to
// share. Errors: FromDisk validates; a bad range given to the rest is a bug (CHECK). Cost: 16.5
// bytes an extent; a search O(log n).
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "format/extent.h"
#include "layer/segment.h"

namespace cowl {

class RangeMap;

class ExtentArray {
 public:
  ExtentArray() = default;
  explicit ExtentArray(std::vector<Extent> extents);

  // Takes extents that come from disk. DataLoss when they are not valid, sorted and disjoint, or
  // name a source >= `source_count`.
  static absl::StatusOr<ExtentArray> FromDisk(std::vector<Extent> extents, uint64_t source_count,
                                              const std::string& path);

  // Calls visit(Segment) for every piece of [begin, end) in order; gaps come as kAbsent.
  template <typename Visit>
  void VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const;

  // For each block the index of the first extent that ends after it; size() where none does. The
  // searches go on in step, so that they wait for memory together.
  void FindEach(std::span<const uint64_t> blocks, std::span<size_t> found) const;

  std::span<const Extent> extents() const { return extents_; }
  size_t size() const { return extents_.size(); }
  bool empty() const { return extents_.empty(); }
  uint64_t DataBlocks() const;

 private:
  static constexpr size_t kMarkEvery = 16;

  // The first extent that ends after `block`.
  std::vector<Extent>::const_iterator FirstEndingAfter(uint64_t block) const;

  std::vector<Extent> extents_;
  // The start of every sixteenth extent. A search begins here: it fits a nearer cache than all the
  // extents, and ends in four lines of those.
  std::vector<uint64_t> marks_;
};

// Builds an array from pieces given in order, joining those that continue each other and cutting
// those that are too long.
class ExtentArrayBuilder {
 public:
  void Reserve(size_t count) { extents_.reserve(count); }
  // REQUIRES: starts at or after the end of all before. Absent segments are skipped.
  void Add(const Segment& segment);
  ExtentArray Build() { return ExtentArray(std::move(extents_)); }

 private:
  void Append(const Extent& extent);
  std::vector<Extent> extents_;
};

// `upper` where it has something, else `lower`. Sources are renumbered by the two tables: new =
// table[old].
ExtentArray MergeExtents(std::span<const Extent> upper, std::span<const uint32_t> upper_sources,
                         std::span<const Extent> lower, std::span<const uint32_t> lower_sources);

// `upper` over `lower`, both of one overlay's file (source 0).
ExtentArray MergeRanges(const RangeMap& upper, const ExtentArray& lower);

template <typename Visit>
void ExtentArray::VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const {
  for (auto it = FirstEndingAfter(begin); it != extents_.end() && it->start() < end; ++it) {
    if (it->start() > begin) visit(Segment{begin, it->start() - begin});
    const uint64_t from = std::max(begin, it->start());
    const uint64_t to = std::min(end, it->end());
    visit(Segment{from, to - from, it->is_data() ? Segment::Kind::kData : Segment::Kind::kZero,
                  static_cast<uint32_t>(it->source()),
                  it->is_data() ? it->physical() + (from - it->start()) : 0});
    begin = to;
  }
  if (begin < end) visit(Segment{begin, end - begin});
}

}  // namespace cowl
