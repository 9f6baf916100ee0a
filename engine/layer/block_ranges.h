// block_ranges.h: which blocks of a file or a disk, as half-open ranges, sorted and disjoint once
// Normalized. Units: blocks. Pure.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace cowl {

using BlockRanges = std::vector<std::pair<uint64_t, uint64_t>>;

// Sorts and joins; empty ones go.
BlockRanges Normalized(BlockRanges ranges);

// All of these take normalized ranges.
uint64_t BlocksIn(const BlockRanges& ranges);
bool Contains(const BlockRanges& ranges, uint64_t block);
// What of `ranges` is in none of `others`.
BlockRanges Without(const BlockRanges& ranges, const BlockRanges& others);

}  // namespace cowl
