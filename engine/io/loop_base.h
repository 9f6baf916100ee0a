// loop_base.h: what both loops with a thread have in common: posted work, sleepers, helpers, the
// turn and the drain. A back end adds one thing: waiting for, and dispatching, the completions of
// its files and sockets. Threads: Post, Stop and Wake from any; the rest on the loop's thread.
// Errors: none; losing the wake-up descriptor is a bug.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <queue>
#include <vector>

#include "base/unique_fd.h"
#include "io/helper_pool.h"
#include "io/socket.h"

namespace cowl {

// A stream or listener that a loop ends when it drains. Linked into its loop while it lives.
class Endable {
 public:
  // Resumes nobody inside the call.
  virtual void End() = 0;

 protected:
  Endable() = default;
  Endable(const Endable&) = delete;
  Endable& operator=(const Endable&) = delete;
  virtual ~Endable() = default;

 private:
  friend class LoopBase;
  size_t index_ = 0;  // in LoopBase::endables_
};

class LoopBase : public IoLoop {
 public:
  void Post(std::function<void()> work) override;
  bool OnLoop() const override;
  void ResumeAfter(std::chrono::nanoseconds delay, std::coroutine_handle<> waiter) override;
  void RunAside(std::function<void()> work, std::coroutine_handle<> waiter) override;
  void Run() override;
  void Stop() override;

  void Link(Endable& endable);
  void Unlink(Endable& endable);

 protected:
  explicit LoopBase(size_t helpers_max);
  ~LoopBase() override;

  int wake_fd() const { return wake_fd_.get(); }
  // Makes a loop that waits go round once more. Any thread.
  void Wake();

  // The back end. BeginRun and EndRun frame the loop's life on its thread.
  virtual void BeginRun() = 0;
  virtual void EndRun() = 0;
  // Submits what is pending, waits for at least one event or until `timeout` (negative: no limit)
  // has passed, and dispatches.
  virtual void WaitAndDispatch(std::chrono::nanoseconds timeout) = 0;
  // Requests that will still resume somebody.
  virtual size_t InFlightCount() const = 0;

 private:
  using Clock = std::chrono::steady_clock;
  struct Sleeper {
    Clock::time_point wake_at;
    uint64_t order;  // first come, first woken
    std::coroutine_handle<> waiter;
    bool operator>(const Sleeper& other) const {
      return wake_at != other.wake_at ? wake_at > other.wake_at : order > other.order;
    }
  };

  void RunPosted();
  void WakeSleepers(Clock::time_point until);
  void BeginDrain();
  bool HasPosted() const { return has_posted_.load(std::memory_order_acquire); }
  std::chrono::nanoseconds NextTimeout() const;

  // The loop's thread only.
  bool stop_asked_ = false;
  bool draining_ = false;
  bool has_run_ = false;
  size_t asides_in_flight_ = 0;
  uint64_t sleep_order_ = 0;
  std::priority_queue<Sleeper, std::vector<Sleeper>, std::greater<>> sleepers_;
  std::vector<Endable*> endables_;
  std::vector<std::function<void()>> running_;  // keeps its capacity from turn to turn

  // Any thread; posted_ guarded by posted_mutex_.
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  std::atomic<bool> has_posted_{false};
  UniqueFd wake_fd_;

  HelperPool helpers_;  // last: its destructor joins threads that still Post
};

}  // namespace cowl
