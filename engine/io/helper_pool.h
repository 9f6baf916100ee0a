// helper_pool.h: threads that do what would hold up a loop: system calls that block, and work that
// computes long. Threads: Run from any thread; the work runs on some helper. Helpers start when
// they are first needed, `threads_max` at most. Ownership: the destructor runs what is queued to
// its end and joins. Errors: none; work reports through what it captures.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace cowl {

class HelperPool {
 public:
  explicit HelperPool(size_t threads_max) : threads_max_(threads_max) {}
  HelperPool(const HelperPool&) = delete;
  HelperPool& operator=(const HelperPool&) = delete;
  ~HelperPool();

  void Run(std::function<void()> work);

 private:
  void Help();

  const size_t threads_max_;
  // Guarded by mutex_.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;
  size_t idle_count_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace cowl
