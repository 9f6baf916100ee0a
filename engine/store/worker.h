// worker.h: one thread that does the store's housekeeping after the verbs that cause it: closing
// devices nobody uses any more, freeing what nobody refers to. Threads: Post from any, Wait from
// any but its own. Ownership: End, and the destructor, run what was posted and drop what would come
// later.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace cowl {

class Worker {
 public:
  Worker() = default;
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Runs `work` after all that was posted before. The thread starts with the first.
  void Post(std::function<void()> work);
  // No sooner than that; Wait does not wait for it.
  void PostAfter(std::chrono::milliseconds delay, std::function<void()> work);
  // Until nothing is queued or running, or `patience` has passed; false then.
  bool Wait(std::chrono::milliseconds patience);

  // Runs what is queued and ends the thread. Nothing may be posted after that but with PostAfter,
  // which is ignored.
  void End();

 private:
  using Clock = std::chrono::steady_clock;
  void Run();
  void QueueDue();

  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  std::multimap<Clock::time_point, std::function<void()>> later_;
  bool busy_ = false;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace cowl
