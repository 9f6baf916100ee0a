#include "files/byte_ranges.h"

namespace cowl {
namespace {

void Append(std::vector<ByteRange>& ranges, ByteRange range) {
  if (range.begin >= range.end) return;
  if (!ranges.empty() && range.begin <= ranges.back().end) {
    ranges.back().end = std::max(ranges.back().end, range.end);
  } else {
    ranges.push_back(range);
  }
}

}  // namespace

ByteRanges::ByteRanges(std::vector<ByteRange> ranges) {
  std::ranges::sort(ranges, {}, &ByteRange::begin);
  for (const ByteRange& range : ranges) Append(ranges_, range);
}

uint64_t ByteRanges::length() const {
  uint64_t length = 0;
  for (const ByteRange& range : ranges_) length += range.length();
  return length;
}

std::vector<ByteRange>::const_iterator ByteRanges::First(ByteRange with) const {
  const auto at = std::ranges::upper_bound(ranges_, with.begin, {}, &ByteRange::end);
  return at != ranges_.end() && at->begin < with.end ? at : ranges_.end();
}

void ByteRanges::Visit(ByteRange with, const std::function<void(ByteRange)>& visit) const {
  for (auto at = First(with); at != ranges_.end() && at->begin < with.end; ++at) {
    visit({std::max(at->begin, with.begin), std::min(at->end, with.end)});
  }
}

ByteRanges Share(const ByteRanges& ranges, std::vector<Claim> claims,
                 const std::function<void(uint32_t owner, uint64_t bytes)>& give) {
  std::ranges::stable_sort(claims, {}, [](const Claim& claim) { return claim.range.begin; });
  std::vector<ByteRange> taken;
  uint64_t taken_end = 0;
  for (const Claim& claim : claims) {
    const ByteRange rest{std::max(claim.range.begin, taken_end), claim.range.end};
    if (rest.begin >= rest.end) continue;
    uint64_t bytes = 0;
    ranges.Visit(rest, [&](ByteRange part) { bytes += part.length(); });
    if (bytes > 0) give(claim.owner, bytes);
    Append(taken, rest);
    taken_end = rest.end;
  }
  std::vector<ByteRange> left;
  auto next = taken.begin();
  for (const ByteRange& range : ranges.ranges()) {
    uint64_t begin = range.begin;
    while (next != taken.end() && next->end <= begin) ++next;
    for (auto at = next; at != taken.end() && at->begin < range.end; ++at) {
      Append(left, {begin, at->begin});
      begin = std::max(begin, at->end);
    }
    Append(left, {begin, range.end});
  }
  return ByteRanges(std::move(left));
}

}  // namespace cowl
