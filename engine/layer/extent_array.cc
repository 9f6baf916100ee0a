#include "layer/extent_array.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "layer/range_map.h"

namespace cowl {
namespace {

Segment ToSegment(const Extent& extent, std::span<const uint32_t> sources) {
  return {extent.start(), extent.length(),
          extent.is_data() ? Segment::Kind::kData : Segment::Kind::kZero, sources[extent.source()],
          extent.physical()};
}

}  // namespace

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
  const auto after =
      std::upper_bound(extents_.begin(), extents_.end(), block,
                       [](uint64_t value, const Extent& extent) { return value < extent.start(); });
  if (after != extents_.begin() && std::prev(after)->end() > block) return std::prev(after);
  return after;
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
