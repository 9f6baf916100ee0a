// task.h: Task<T>, the coroutine that every operation of the data path is.
// Lazy: a Task does nothing until it is co_awaited, spawned (loop.h) or driven by RunInline below.
// Ownership: the Task owns its frame; destroying a Task that is suspended destroys the frame, which
// is only legal when nothing will resume it. Arguments: a coroutine keeps copies of by-value
// parameters, and only references to the others, which must outlive it. Threads: a Task runs on the
// loop it was started on, all of it, unless it awaits Offload. Errors: T is absl::Status or
// absl::StatusOr; an exception that leaves a Task ends the process.
//
// gcc 12: name temporaries before a co_await (`const Foo foo{...}; co_await Bar(foo);`), and never
// write a capturing lambda that is itself a coroutine: its captures die with the lambda object.
// Pass what it needs as parameters. Nor await in an `if`'s condition and in its body: it may leave
// out what comes after.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstdlib>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/status.h"
#include "io/frame_pool.h"

namespace cowl {

// Sanitizers see into a frame that was freed, not into one that is kept.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COWL_TASK_FRAMES_ARE_FREED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define COWL_TASK_FRAMES_ARE_FREED 1
#endif
#endif

template <typename T>
class [[nodiscard]] Task;

namespace internal {

// An await hands over to the awaited coroutine, and its end back to the waiter, by symmetric
// transfer: calls that take no stack. gcc makes them so only where it optimises and no sanitizer
// wants the frame; a long loop of awaits that never suspend would overflow the stack there. Those
// builds ask after the fact whether the awaited one has ended already.
#if defined(__GNUC__) && !defined(__clang__) && \
    (!defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define COWL_TASK_ASKS_AFTERWARDS 1
// Whoever comes second, the end or the waiter's suspension, resumes the waiter. Atomic: the awaited
// one may have moved on to another thread meanwhile.
class Handover {
 public:
  bool ComesSecond() noexcept { return first_came_.exchange(true); }

 private:
  std::atomic<bool> first_came_{false};
};

struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  void await_suspend(std::coroutine_handle<Promise> done) const noexcept {
    const std::coroutine_handle<> waiter = done.promise().waiter;
    if (waiter && done.promise().handover.ComesSecond()) waiter.resume();
  }
  void await_resume() const noexcept {}
};

struct PromiseState {
  std::coroutine_handle<> waiter;
  Handover handover;
};
#else
struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  template <typename Promise>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) const noexcept {
    const std::coroutine_handle<> waiter = done.promise().waiter;
    return waiter ? waiter : std::noop_coroutine();
  }
  void await_resume() const noexcept {}
};

struct PromiseState {
  std::coroutine_handle<> waiter;
};
#endif

struct PromiseBase : PromiseState {
#ifndef COWL_TASK_FRAMES_ARE_FREED
  static void* operator new(size_t bytes) { return FramePool::Take(bytes); }
  static void operator delete(void* frame, size_t bytes) { FramePool::GiveBack(frame, bytes); }
#endif
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { std::abort(); }
};

template <typename T>
struct Promise : PromiseBase {
  std::optional<T> value;

  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& result) {
    value.emplace(std::forward<U>(result));
  }
  T Take() { return *std::move(value); }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void Take() {}
};

}  // namespace internal

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool await_ready() const noexcept { return false; }
#ifdef COWL_TASK_ASKS_AFTERWARDS
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    handle_.promise().waiter = waiter;
    handle_.resume();
    return !handle_.promise().handover.ComesSecond();
  }
#else
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiter) noexcept {
    handle_.promise().waiter = waiter;
    return handle_;
  }
#endif
  T await_resume() { return handle_.promise().Take(); }

 private:
  Handle handle_;
};

namespace internal {

template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

// A coroutine that starts at once and frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    [[noreturn]] void unhandled_exception() noexcept { std::abort(); }
  };
};

template <typename T>
Detached RunInto(Task<T> task, std::optional<T>* result) {
  result->emplace(co_await task);
}

inline Detached RunDetached(Task<void> task) { co_await task; }

}  // namespace internal

// Starts `task` on the calling thread; it goes on wherever its awaits resume it, and frees itself
// at its end.
inline void StartDetached(Task<void> task) { internal::RunDetached(std::move(task)); }

// Drives a task that completes without ever suspending for an outside event: memory files, inline
// loops. CHECKs that it did.
template <typename T>
T RunInline(Task<T> task) {
  std::optional<T> result;
  internal::RunInto(std::move(task), &result);
  COWL_CHECK(result.has_value());
  return *std::move(result);
}

}  // namespace cowl
