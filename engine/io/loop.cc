#include "io/loop.h"

#include <memory>

namespace cowl {

void Loop::Spawn(Task<void> task) {
  if (OnLoop()) {
    StartDetached(std::move(task));
    return;
  }
  // std::function wants copies; the task moves, so it travels behind a pointer.
  auto held = std::make_shared<Task<void>>(std::move(task));
  Post([held] { StartDetached(std::move(*held)); });
}

void WaitQueue::WakeAll() {
  Awaiter* waiting = head_;
  head_ = nullptr;
  tail_ = &head_;
  while (waiting != nullptr) {
    Awaiter* const next = waiting->next;  // the awaiter dies when its coroutine goes on
    waiting->waiter.resume();
    waiting = next;
  }
}

InlineLoop::~InlineLoop() {
  for (const auto sleeper : sleepers_) sleeper.destroy();
}

void InlineLoop::ResumeAfter(std::chrono::nanoseconds, std::coroutine_handle<> waiter) {
  sleepers_.push_back(waiter);
}

void InlineLoop::RunAside(std::function<void()> work, std::coroutine_handle<> waiter) {
  work();
  waiter.resume();
}

void InlineLoop::WakeSleepers() {
  std::vector<std::coroutine_handle<>> woken;
  woken.swap(sleepers_);
  for (const auto sleeper : woken) sleeper.resume();
}

}  // namespace cowl
