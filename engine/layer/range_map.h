// range_map.h: the writable map: which blocks have been written or zeroed, as ranges in a B-tree.
// Units: blocks; ranges are half-open. Invariant: disjoint, non-empty, neighbours that continue
// each other are one range. Threads: one writer; safe to
// share once nobody writes. Errors: none; an empty range is a bug (CHECK). Cost: O(log n) to find,
// plus the ranges touched.
#pragma once

#include <algorithm>
#include <cstdint>

#include "absl/container/btree_map.h"
#include "layer/segment.h"

namespace cowl {

class RangeMap {
 public:
  // The range of `segment` is now this (kData or kZero), whatever it was.
  void Set(const Segment& segment);

  // Calls visit(Segment) for every piece of [begin, end) in order; gaps come as kAbsent.
  template <typename Visit>
  void VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const;

  // Calls visit(Segment) for every range.
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const auto& run : runs_) visit(ToSegment(run));
  }

  size_t size() const { return runs_.size(); }
  bool empty() const { return runs_.empty(); }

 private:
  // Packed as Extent is, so that more of them share a node; but of any length.
  struct Run {
    uint64_t length;
    uint64_t kind : 2;
    uint64_t source : 20;
    uint64_t physical : 42;
  };
  using Runs = absl::btree_map<uint64_t, Run>;  // by start

  static Run ToRun(const Segment& segment) {
    return {segment.length, static_cast<uint64_t>(segment.kind), segment.source, segment.physical};
  }
  static Segment ToSegment(const Runs::value_type& run) {
    return {run.first, run.second.length, static_cast<Segment::Kind>(run.second.kind),
            static_cast<uint32_t>(run.second.source), run.second.physical};
  }
  static uint64_t EndOf(const Runs::value_type& run) { return run.first + run.second.length; }

  // The first run that ends after `block`.
  Runs::const_iterator FirstEndingAfter(uint64_t block) const;
  void CutAt(uint64_t block);
  Runs::iterator Clear(uint64_t begin, uint64_t end);
  void JoinAround(Runs::iterator at);

  Runs runs_;
};

template <typename Visit>
void RangeMap::VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const {
  for (auto it = FirstEndingAfter(begin); it != runs_.end() && it->first < end; ++it) {
    const Segment run = ToSegment(*it);
    if (run.start > begin) visit(Segment{begin, run.start - begin});
    const uint64_t from = std::max(begin, run.start);
    const uint64_t to = std::min(end, run.end());
    visit(run.Slice(from, to));
    begin = to;
  }
  if (begin < end) visit(Segment{begin, end - begin});
}

}  // namespace cowl
