// traffic.h: whether a device is the only one on its loop that is asked for anything.
// Threads: one loop, which is one thread.
#pragma once

#include <cstdint>

namespace cowl {

class Traffic {
 public:
  // One request of this device begins.
  void Count() {
    ++own_;
    ++OfThisThread();
  }
  // True when no other device's request began since the last call. The first call is too early to
  // tell.
  bool OthersWereQuiet() {
    const uint64_t others = OfThisThread() - own_;
    const bool were_quiet = others == others_seen_;
    others_seen_ = others;
    return were_quiet;
  }

 private:
  static uint64_t& OfThisThread() {
    thread_local uint64_t requests = 0;
    return requests;
  }

  uint64_t own_ = 0;
  uint64_t others_seen_ = UINT64_MAX;
};

}  // namespace cowl
