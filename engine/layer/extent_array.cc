#include "layer/extent_array.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "layer/range_map.h"

namespace cowl {
namespace {

constexpr size_t kBatch = 16;  // searches in step: as many misses as a core can have under way
constexpr size_t kExtentsInLine = 64 / sizeof(Extent);

Segment ToSegment(const Extent& extent, std::span<const uint32_t> sources) {
  return {extent.start(), extent.length(),
          extent.is_data() ? Segment::Kind::kData : Segment::Kind::kZero, sources[extent.source()],
          extent.physical()};
}

// Moves each of `at` on to the last of the `count` items from there that starts at or before its
// block, or leaves it at the first. No branch depends on what is read.
template <typename Item, typename StartOf>
void SearchInStep(std::span<const Item*> at, std::span<const uint64_t> blocks, size_t count,
                  StartOf start_of) {
  while (count > 1) {
    const size_t half = count / 2;
    for (size_t i = 0; i < at.size(); ++i) {
      const Item* const middle = at[i] + half;
      at[i] = start_of(*middle) <= blocks[i] ? middle : at[i];
    }
    count -= half;
  }
}

}  // namespace

ExtentArray::ExtentArray(std::vector<Extent> extents) : extents_(std::move(extents)) {
  marks_.reserve((extents_.size() + kMarkEvery - 1) / kMarkEvery);
  for (size_t i = 0; i < extents_.size(); i += kMarkEvery) marks_.push_back(extents_[i].start());
}

absl::StatusOr<ExtentArray> ExtentArray::FromDisk(std::vector<Extent> extents,
                                                  uint64_t source_count, const std::string& path) {
  uint64_t end = 0;
  for (size_t i = 0; i < extents.size(); ++i) {
    const Extent& extent = extents[i];
    if (!extent.IsValid() || extent.source() >= source_count || (i > 0 && extent.start() < end)) {
      return DataLoss(absl::StrCat(path, ": map: extent ", i, " is malformed or out of order"));
    }
    end = extent.end();
  }
  return ExtentArray(std::move(extents));
}

std::vector<Extent>::const_iterator ExtentArray::FirstEndingAfter(uint64_t block) const {
  size_t found = 0;
  FindEach({&block, 1}, {&found, 1});
  return extents_.begin() + static_cast<ptrdiff_t>(found);
}

void ExtentArray::FindEach(std::span<const uint64_t> blocks, std::span<size_t> found) const {
  COWL_CHECK(found.size() >= blocks.size());
  if (extents_.empty()) {
    std::fill_n(found.begin(), blocks.size(), 0);
    return;
  }
  const size_t in_leaf = std::min(kMarkEvery, extents_.size());
  while (!blocks.empty()) {
    const size_t count = std::min(kBatch, blocks.size());
    const auto batch = blocks.first(count);
    std::array<const uint64_t*, kBatch> mark;
    std::array<const Extent*, kBatch> at;
    mark.fill(marks_.data());
    SearchInStep<uint64_t>(std::span(mark).first(count), batch, marks_.size(),
                           [](uint64_t start) { return start; });
    for (size_t i = 0; i < count; ++i) {
      // The last leaf is short: it begins earlier, with extents that lie before its mark.
      const size_t leaf = static_cast<size_t>(mark[i] - marks_.data()) * kMarkEvery;
      at[i] = extents_.data() + std::min(leaf, extents_.size() - in_leaf);
      for (size_t line = 0; line < in_leaf; line += kExtentsInLine)
        __builtin_prefetch(at[i] + line);
    }
    SearchInStep<Extent>(std::span(at).first(count), batch, in_leaf,
                         [](const Extent& extent) { return extent.start(); });
    for (size_t i = 0; i < count; ++i)
      found[i] = static_cast<size_t>(at[i] - extents_.data()) + (at[i]->end() <= batch[i] ? 1 : 0);
    blocks = blocks.subspan(count);
    found = found.subspan(count);
  }
}

uint64_t ExtentArray::DataBlocks() const {
  uint64_t blocks = 0;
  for (const Extent& extent : extents_) blocks += extent.is_data() ? extent.length() : 0;
  return blocks;
}

void ExtentArrayBuilder::Add(const Segment& segment) {
  if (segment.kind == Segment::Kind::kAbsent) return;
  for (uint64_t begin = segment.start; begin < segment.end();) {
    const uint64_t length = std::min(segment.end() - begin, Extent::kLengthMax);
    const Segment part = segment.Slice(begin, begin + length);
    Append(part.kind == Segment::Kind::kData
               ? Extent::Data(begin, length, part.source, part.physical)
               : Extent::Zero(begin, length, part.source));
    begin += length;
  }
}

void ExtentArrayBuilder::Append(const Extent& extent) {
  if (extents_.empty() || !extents_.back().JoinsWith(extent)) {
    COWL_CHECK(extents_.empty() || extents_.back().end() <= extent.start());
    extents_.push_back(extent);
    return;
  }
  const Extent& last = extents_.back();
  const uint64_t length = last.length() + extent.length();
  extents_.back() = last.is_data()
                        ? Extent::Data(last.start(), length, last.source(), last.physical())
                        : Extent::Zero(last.start(), length, last.source());
}

ExtentArray MergeExtents(std::span<const Extent> upper, std::span<const uint32_t> upper_sources,
                         std::span<const Extent> lower, std::span<const uint32_t> lower_sources) {
  ExtentArrayBuilder builder;
  builder.Reserve(upper.size() + lower.size());
  size_t below = 0;
  uint64_t done = 0;  // everything before is decided
  // Emits what `lower` has in [done, until).
  const auto emit_lower = [&](uint64_t until) {
    while (below < lower.size() && lower[below].start() < until) {
      const Extent& extent = lower[below];
      const uint64_t from = std::max(done, extent.start());
      const uint64_t to = std::min(until, extent.end());
      if (from < to) builder.Add(ToSegment(extent, lower_sources).Slice(from, to));
      if (extent.end() > until) break;
      ++below;
    }
    done = std::max(done, until);
  };
  for (const Extent& extent : upper) {
    emit_lower(extent.start());
    builder.Add(ToSegment(extent, upper_sources));
    done = extent.end();
  }
  emit_lower(Extent::kStartLimit);
  return builder.Build();
}

ExtentArray MergeRanges(const RangeMap& upper, const ExtentArray& lower) {
  static constexpr uint32_t kOwn[] = {0};
  ExtentArrayBuilder builder;
  builder.Reserve(upper.size());
  upper.ForEach([&](const Segment& segment) { builder.Add(segment); });
  const ExtentArray flat = builder.Build();
  return MergeExtents(flat.extents(), kOwn, lower.extents(), kOwn);
}

}  // namespace cowl
