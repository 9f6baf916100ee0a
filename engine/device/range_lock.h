// range_lock.h: keeps changes to the same block apart where one of them must read before it writes.
// Whole-block changes share; an update of part of a block excludes every other change of that
// block. Waiters are served in the order they came. Units: blocks. Threads: one loop. Cost:
// O(changes in flight).
#pragma once

#include <coroutine>
#include <cstdint>
#include <list>

namespace cowl {

class RangeLock {
 public:
  struct Held {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool exclusive = false;
    bool granted = false;
    std::coroutine_handle<> waiter;
  };
  using Ticket = std::list<Held>::iterator;

  // Releases when it goes away.
  class Guard {
   public:
    Guard(RangeLock& lock, Ticket ticket) : lock_(lock), ticket_(ticket) {}
    ~Guard() { lock_.Release(ticket_); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    RangeLock& lock_;
    const Ticket ticket_;
  };

  struct Awaiter {
    RangeLock& lock;
    Ticket ticket;
    bool await_ready() const noexcept { return ticket->granted; }
    void await_suspend(std::coroutine_handle<> waiter) { ticket->waiter = waiter; }
    Guard await_resume() const { return Guard(lock, ticket); }
  };

  // const RangeLock::Guard guard = co_await lock.Lock(begin, end, exclusive);
  Awaiter Lock(uint64_t begin, uint64_t end, bool exclusive);

 private:
  bool MayGrant(Ticket ticket) const;
  void Release(Ticket ticket);

  std::list<Held> held_;  // granted and waiting, in the order they came
};

}  // namespace cowl
