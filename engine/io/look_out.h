// look_out.h: whether a loop that has nothing to do keeps looking for a moment before it sleeps.
// Falling asleep and being woken costs tens of microseconds where the CPU goes idle meanwhile, most
// of all in a virtual machine: more than a request that comes right after the answer to the one
// before it. So a loop that expects a short wait looks out for the next completion, for at most
// kTimeMax, and sleeps at once where it expects a long one: an idle server never spins, a busy one
// has no time to. What it expects are the waits that followed before, after a like sequence of
// short and long ones: the way CPUs foresee branches. (A client's write and flush are two waits,
// for the disk and for the client, and only one of them is short.) Threads: the loop's.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cowl {

class LookOut {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kTimeMax{50};
  static constexpr std::chrono::microseconds kWakeUp{50};

  LookOut();  // looks where this process has more than one CPU
  explicit LookOut(bool may_look) : may_look_(may_look) {}

  // How long to look before sleeping, in a wait of `timeout` (negative: no limit).
  std::chrono::nanoseconds TimeFor(std::chrono::nanoseconds timeout) const {
    const bool is_timed = timeout.count() >= 0 && timeout < kTimeMax;
    if (!may_look_ || is_timed || short_after_[recent_] < kLikely) return {};
    return kTimeMax;
  }
  // `slept`: the wait ended with a wake-up, whose own time must not make a long one of it: a loop
  // that sleeps would never find out that looking pays.
  void NoteWait(std::chrono::nanoseconds waited, bool slept) {
    const bool was_short = waited < (slept ? kTimeMax + kWakeUp : kTimeMax);
    uint8_t& count = short_after_[recent_];
    if (was_short && count < kCertain) ++count;
    if (!was_short && count > 0) --count;
    recent_ = (recent_ * 2 + (was_short ? 1 : 0)) % short_after_.size();
  }

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
  static constexpr uint8_t kLikely = 2;
  static constexpr uint8_t kCertain = 3;
  size_t recent_ = 0;  // the last four waits, a bit each: 1 was short
  std::array<uint8_t, 16> short_after_{};
};

}  // namespace cowl
