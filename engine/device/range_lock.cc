#include "device/range_lock.h"

#include <vector>

namespace cowl {

RangeLock::Awaiter RangeLock::Lock(uint64_t begin, uint64_t end, bool exclusive) {
  const Ticket ticket = held_.insert(held_.end(), Held{begin, end, exclusive, false, {}});
  ticket->granted = MayGrant(ticket);
  return {*this, ticket};
}

// Nobody who came before and overlaps stands in the way.
bool RangeLock::MayGrant(Ticket ticket) const {
  for (auto other = held_.begin(); other != std::list<Held>::const_iterator(ticket); ++other) {
    const bool overlaps = other->begin < ticket->end && ticket->begin < other->end;
    if (overlaps && (other->exclusive || ticket->exclusive)) return false;
  }
  return true;
}

void RangeLock::Release(Ticket ticket) {
  const uint64_t begin = ticket->begin;
  const uint64_t end = ticket->end;
  held_.erase(ticket);
  std::vector<std::coroutine_handle<>> granted;
  for (Ticket other = held_.begin(); other != held_.end(); ++other) {
    const bool overlaps = other->begin < end && begin < other->end;
    if (other->granted || !overlaps || !MayGrant(other)) continue;
    other->granted = true;
    granted.push_back(other->waiter);
  }
  for (const std::coroutine_handle<> waiter : granted) waiter.resume();
}

}  // namespace cowl
