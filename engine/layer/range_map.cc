#include "layer/range_map.h"

#include "base/status.h"

namespace cowl {

RangeMap::Runs::const_iterator RangeMap::FirstEndingAfter(uint64_t block) const {
  auto it = runs_.upper_bound(block);
  if (it != runs_.begin()) {
    const auto before = std::prev(it);
    if (before->second.end() > block) return before;
  }
  return it;
}

// Splits the run that crosses `block`, so that runs end or begin there.
void RangeMap::CutAt(uint64_t block) {
  auto it = runs_.upper_bound(block);
  if (it == runs_.begin()) return;
  --it;
  const Segment run = it->second;
  if (run.start == block || run.end() <= block) return;
  it->second = run.Slice(run.start, block);
  runs_.emplace_hint(std::next(it), block, run.Slice(block, run.end()));
}

void RangeMap::JoinAround(Runs::iterator at) {
  if (at != runs_.begin()) {
    const auto before = std::prev(at);
    if (before->second.JoinsWith(at->second)) {
      before->second.length += at->second.length;
      at = std::prev(runs_.erase(at));
    }
  }
  const auto after = std::next(at);
  if (after != runs_.end() && at->second.JoinsWith(after->second)) {
    at->second.length += after->second.length;
    runs_.erase(after);
  }
}

void RangeMap::Set(const Segment& segment) {
  COWL_CHECK(segment.length != 0 && segment.kind != Segment::Kind::kAbsent);
  CutAt(segment.start);
  CutAt(segment.end());
  auto from = runs_.lower_bound(segment.start);
  auto to = runs_.lower_bound(segment.end());
  to = runs_.erase(from, to);
  JoinAround(runs_.emplace_hint(to, segment.start, segment));
}

}  // namespace cowl
