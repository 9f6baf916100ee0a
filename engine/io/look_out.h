// look_out.h: whether a loop that has nothing to do keeps looking for a moment before it sleeps.
// Falling asleep and being woken costs tens of microseconds where the CPU goes idle meanwhile, most
// of all in a virtual machine: more than a request that comes right after the answer to the one
// before it. So a loop whose last wait was short looks out for the next completion, for at most
// kTimeMax, and one that waited long sleeps at once: an idle server never spins, a busy one has no
// time to, and a client that asks one thing at a time costs at most as much again as it made the
// server sleep. The kernel does the same for virtual CPUs (halt polling).
// Threads: the loop's.
#pragma once

#include <chrono>

namespace cowl {

class LookOut {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kTimeMax{50};

  LookOut();

  // How long to look before sleeping, in a wait of `timeout` (negative: no limit).
  std::chrono::nanoseconds TimeFor(std::chrono::nanoseconds timeout) const {
    if (!was_short_ || (timeout.count() >= 0 && timeout < kTimeMax)) return {};
    return kTimeMax;
  }
  void NoteWait(std::chrono::nanoseconds waited) { was_short_ = may_look_ && waited < kTimeMax; }

  // Between two looks: lets the CPU's other thread go ahead.
  static void Pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

 private:
  bool may_look_;  // with one CPU, looking would keep from running what is looked out for
  bool was_short_ = false;
};

}  // namespace cowl
