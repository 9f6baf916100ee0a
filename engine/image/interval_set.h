// interval_set.h: a set of block numbers, kept as disjoint ranges [begin, end), neighbours merged.
// Threads: one. Cost: O(log ranges) a call; blocks that come in order are one range.
#pragma once

#include <cstdint>
#include <iterator>
#include <map>

namespace cowl {

class IntervalSet {
 public:
  void Add(uint64_t begin, uint64_t end) {
    auto at = ranges_.upper_bound(begin);
    if (at != ranges_.begin() && std::prev(at)->second >= begin) {
      --at;
      begin = at->first;
    }
    while (at != ranges_.end() && at->first <= end) {
      if (at->second > end) end = at->second;
      at = ranges_.erase(at);
    }
    ranges_.emplace_hint(at, begin, end);
  }

  bool Contains(uint64_t block) const {
    const auto at = ranges_.upper_bound(block);
    return at != ranges_.begin() && block < std::prev(at)->second;
  }

  // Disjoint, sorted: begin -> end.
  const std::map<uint64_t, uint64_t>& ranges() const { return ranges_; }

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

}  // namespace cowl
