#include "attach/range_turns.h"

#include <algorithm>

namespace cowl {

RangeTurns::Turn::Turn(RangeTurns& turns, uint64_t begin, uint64_t end) : turns_(turns) {
  std::unique_lock lock(turns_.mutex_);
  place_ = turns_.ranges_.insert(turns_.ranges_.end(), {begin, end});
  turns_.ended_.wait(lock, [&] {
    return std::none_of(turns_.ranges_.begin(), place_, [&](const Range& earlier) {
      return earlier.begin < end && begin < earlier.end;
    });
  });
}

RangeTurns::Turn::~Turn() {
  std::lock_guard lock(turns_.mutex_);
  turns_.ranges_.erase(place_);
  turns_.ended_.notify_all();
}

}  // namespace cowl
