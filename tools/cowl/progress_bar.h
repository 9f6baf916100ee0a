// progress_bar.h: how far long work has come, with rate and time left, on one line of stderr: only
// where that is a terminal. Threads: any; calls exclude each other. Ownership: the line is cleared
// when the bar goes.
#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include "cowl/store.h"

namespace cowl {

class ProgressBar {
 public:
  ProgressBar(std::string label, bool is_quiet);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Shows it, and says whether the work should go on (interrupt.h).
  bool Report(uint64_t done_bytes, uint64_t total_bytes);
  Progress Callback() {
    return [this](uint64_t done, uint64_t total) { return Report(done, total); };
  }

 private:
  using Clock = std::chrono::steady_clock;
  const std::string label_;
  const bool is_shown_;
  const Clock::time_point begin_ = Clock::now();
  std::mutex mutex_;
  Clock::time_point last_{};
  bool is_drawn_ = false;
};

// The line itself. Pure. `columns`: width of the terminal.
std::string ProgressLine(const std::string& label, uint64_t done_bytes, uint64_t total_bytes,
                         double seconds, int columns);

}  // namespace cowl
