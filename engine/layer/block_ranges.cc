#include "layer/block_ranges.h"

#include <algorithm>

namespace cowl {

BlockRanges Normalized(BlockRanges ranges) {
  std::sort(ranges.begin(), ranges.end());
  BlockRanges joined;
  for (const auto& [begin, end] : ranges) {
    if (!joined.empty() && begin <= joined.back().second) {
      joined.back().second = std::max(joined.back().second, end);
    } else if (begin < end) {
      joined.emplace_back(begin, end);
    }
  }
  return joined;
}

uint64_t BlocksIn(const BlockRanges& ranges) {
  uint64_t blocks = 0;
  for (const auto& [begin, end] : ranges) blocks += end - begin;
  return blocks;
}

bool Contains(const BlockRanges& ranges, uint64_t block) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), block,
                       [](uint64_t value, const std::pair<uint64_t, uint64_t>& range) {
                         return value < range.second;
                       });
  return after != ranges.end() && after->first <= block;
}

BlockRanges Without(const BlockRanges& ranges, const BlockRanges& others) {
  BlockRanges left;
  auto other = others.begin();
  for (auto [begin, end] : ranges) {
    while (other != others.end() && other->second <= begin) ++other;
    for (auto next = other; next != others.end() && next->first < end; ++next) {
      if (begin < next->first) left.emplace_back(begin, next->first);
      begin = std::min(end, next->second);
    }
    if (begin < end) left.emplace_back(begin, end);
  }
  return left;
}

}  // namespace cowl
