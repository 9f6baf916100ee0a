// hold.h: counts who needs a server that was started only for them, and ends it when nobody does.
// A server that a user started never ends by itself. One that attach or run started
// (ends_by_itself) ends when nobody holds it and nothing is attached; one that nobody came to hold
// ends after a while. Threads: any.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>

#include "absl/status/status.h"

namespace cowl {

class HoldCounter {
 public:
  // `is_attached`: whether anything of the store is attached now; may take long. `end`: called
  // once, when the server should end.
  HoldCounter(bool ends_by_itself, std::function<bool()> is_attached, std::function<void()> end);

  // Unavailable when the server is about to end: connect again later.
  absl::Status Begin();
  // True: the server ends now.
  bool End();
  // For a timer: ends a server that has been held by nobody for `patience`.
  void EndWhenIdle(std::chrono::seconds patience);

 private:
  bool EndIfIdle();

  const bool ends_by_itself_;
  const std::function<bool()> is_attached_;
  const std::function<void()> end_;
  std::mutex mutex_;  // guards what follows
  int count_ = 0;
  uint64_t begun_count_ = 0;  // grows with every Begin
  bool is_ending_ = false;
  std::chrono::steady_clock::time_point idle_since_ = std::chrono::steady_clock::now();
};

}  // namespace cowl
