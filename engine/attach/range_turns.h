// range_turns.h: changes of ranges that overlap take turns, in the order in which they came. Others
// do not wait. Threads: any. Errors: none. Cost: looks at every change that is under way or waits.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <mutex>

namespace cowl {

class RangeTurns {
 private:
  struct Range {
    uint64_t begin;
    uint64_t end;
  };

 public:
  // A change's turn, as long as it exists.
  class Turn {
   public:
    // Waits for its turn.
    Turn(RangeTurns& turns, uint64_t begin, uint64_t end);
    ~Turn();
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    RangeTurns& turns_;
    std::list<Range>::iterator place_;
  };

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  std::list<Range> ranges_;  // under way or waiting, in the order in which they came
};

}  // namespace cowl
