// loop.h: the event loop of one thread: where coroutines run, and where the completions of files
// and sockets arrive. Threads: a loop belongs to the thread that runs it. Post may be called from
// any thread; all else only on the loop. Ownership: files and sockets opened on a loop must be gone
// before it is. Implementations: UringLoop (the product), SyncLoop (plain system calls: --io sync),
// InlineLoop (tests; nothing suspends).
#pragma once

#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "io/task.h"

namespace cowl {

class Loop {
 public:
  virtual ~Loop() = default;

  // Runs `work` on the loop, soon, in the order of the calls. Any thread.
  virtual void Post(std::function<void()> work) = 0;

  // True on the loop's own thread.
  virtual bool OnLoop() const = 0;

  // Resumes `waiter` on the loop once `delay` has passed.
  virtual void ResumeAfter(std::chrono::nanoseconds delay, std::coroutine_handle<> waiter) = 0;

  // Runs `work` on a helper thread, then resumes `waiter` on the loop. For work that computes long
  // or blocks.
  virtual void RunAside(std::function<void()> work, std::coroutine_handle<> waiter) = 0;

  // Starts `task` on the loop; from another thread by Post.
  void Spawn(Task<void> task);
};

// co_await Sleep(loop, 10ms)
struct SleepAwaiter {
  Loop& loop;
  std::chrono::nanoseconds delay;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { loop.ResumeAfter(delay, waiter); }
  void await_resume() const noexcept {}
};
inline SleepAwaiter Sleep(Loop& loop, std::chrono::nanoseconds delay) { return {loop, delay}; }

// co_await Offload(loop, [&] { ... }): runs the function on a helper thread; the coroutine goes on
// on the loop afterwards. What the function touches must be left alone by the loop meanwhile.
struct OffloadAwaiter {
  Loop& loop;
  std::function<void()> work;
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) { loop.RunAside(std::move(work), waiter); }
  void await_resume() const noexcept {}
};
inline OffloadAwaiter Offload(Loop& loop, std::function<void()> work) {
  return {loop, std::move(work)};
}

// co_await SwitchTo(loop): the rest of the coroutine runs on `loop`.
struct SwitchAwaiter {
  Loop& loop;
  bool await_ready() const noexcept { return loop.OnLoop(); }
  void await_suspend(std::coroutine_handle<> waiter) {
    loop.Post([waiter] { waiter.resume(); });
  }
  void await_resume() const noexcept {}
};
inline SwitchAwaiter SwitchTo(Loop& loop) { return {loop}; }

// Tasks on one loop wait here for another to say go on. Threads: one loop. Wakes in the order of
// waiting; a woken task runs at once, inside the call that woke it.
class WaitQueue {
 public:
  struct Awaiter {
    WaitQueue& queue;
    std::coroutine_handle<> waiter;
    Awaiter* next = nullptr;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> handle) noexcept {
      waiter = handle;
      *queue.tail_ = this;
      queue.tail_ = &next;
    }
    void await_resume() const noexcept {}
  };

  WaitQueue() = default;
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  Awaiter Wait() { return {*this, {}}; }
  bool empty() const { return head_ == nullptr; }
  void WakeAll();

 private:
  Awaiter* head_ = nullptr;
  Awaiter** tail_ = &head_;
};

// Blocks the calling thread until `task` has run to its end on `loop`. Not from the loop's own
// thread, except where nothing in the task suspends (InlineLoop).
template <typename T>
T RunOn(Loop& loop, Task<T> task) {
  if (loop.OnLoop()) return RunInline(std::move(task));
  struct Shared {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<T> result;
  } shared;
  struct Body {
    static Task<void> Run(Task<T> task, Shared* shared) {
      std::optional<T> result;
      {
        // The frame goes, with all that it was given, before the caller is told: it may end what
        // that refers to.
        Task<T> running = std::move(task);
        result.emplace(co_await running);
      }
      std::lock_guard lock(shared->mutex);
      shared->result = std::move(result);
      shared->done.notify_one();
    }
  };
  loop.Spawn(Body::Run(std::move(task), &shared));
  std::unique_lock lock(shared.mutex);
  shared.done.wait(lock, [&] { return shared.result.has_value(); });
  return *std::move(shared.result);
}

// A loop without a thread: the caller's. Post and Offload run at once, sleeps never end (a task
// that sleeps is a test's mistake unless it asks for that: `sleepers` counts them).
class InlineLoop : public Loop {
 public:
  ~InlineLoop() override;
  void Post(std::function<void()> work) override { work(); }
  bool OnLoop() const override { return true; }
  void ResumeAfter(std::chrono::nanoseconds delay, std::coroutine_handle<> waiter) override;
  void RunAside(std::function<void()> work, std::coroutine_handle<> waiter) override;
  // Resumes every task that sleeps now, once.
  void WakeSleepers();

 private:
  std::vector<std::coroutine_handle<>> sleepers_;
};

}  // namespace cowl
