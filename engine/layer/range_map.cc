#include "layer/range_map.h"

#include "base/status.h"
#include "format/extent.h"

namespace cowl {

RangeMap::Runs::const_iterator RangeMap::FirstEndingAfter(uint64_t block) const {
  auto it = runs_.upper_bound(block);
  if (it != runs_.begin()) {
    const auto before = std::prev(it);
    if (EndOf(*before) > block) return before;
  }
  return it;
}

// Splits the run that crosses `block`, so that runs end or begin there.
void RangeMap::CutAt(uint64_t block) {
  auto it = runs_.upper_bound(block);
  if (it == runs_.begin()) return;
  --it;
  const Segment run = ToSegment(*it);
  if (run.start == block || run.end() <= block) return;
  it->second = ToRun(run.Slice(run.start, block));
  runs_.emplace_hint(std::next(it), block, ToRun(run.Slice(block, run.end())));
}

// Leaves nothing in [begin, end); the first run behind it.
RangeMap::Runs::iterator RangeMap::Clear(uint64_t begin, uint64_t end) {
  CutAt(begin);
  CutAt(end);
  return runs_.erase(runs_.lower_bound(begin), runs_.lower_bound(end));
}

void RangeMap::JoinAround(Runs::iterator at) {
  if (at != runs_.begin()) {
    const auto before = std::prev(at);
    if (ToSegment(*before).JoinsWith(ToSegment(*at))) {
      before->second.length += at->second.length;
      at = std::prev(runs_.erase(at));
    }
  }
  const auto after = std::next(at);
  if (after != runs_.end() && ToSegment(*at).JoinsWith(ToSegment(*after))) {
    at->second.length += after->second.length;
    runs_.erase(after);
  }
}

void RangeMap::Set(const Segment& segment) {
  COWL_CHECK(segment.length != 0 && segment.kind != Segment::Kind::kAbsent &&
             segment.source < Extent::kSourceLimit && segment.physical < Extent::kPhysicalLimit);
  // What nearly every write does, with one search: it fills a gap, or replaces exactly one run.
  auto next = runs_.lower_bound(segment.start);
  if (next != runs_.end() && next->first == segment.start &&
      next->second.length == segment.length) {
    next->second = ToRun(segment);
    return JoinAround(next);
  }
  const bool is_free_below = next == runs_.begin() || EndOf(*std::prev(next)) <= segment.start;
  const bool is_free_above = next == runs_.end() || next->first >= segment.end();
  if (!is_free_below || !is_free_above) next = Clear(segment.start, segment.end());
  JoinAround(runs_.emplace_hint(next, segment.start, ToRun(segment)));
}

}  // namespace cowl
