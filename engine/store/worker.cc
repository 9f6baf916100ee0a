#include "store/worker.h"

namespace cowl {

Worker::~Worker() { End(); }

void Worker::End() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

void Worker::Post(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.notify_all();
}

void Worker::PostAfter(std::chrono::milliseconds delay, std::function<void()> work) {
  std::lock_guard lock(mutex_);
  if (ending_) return;
  later_.emplace(Clock::now() + delay, std::move(work));
  if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
  changed_.notify_all();
}

bool Worker::Wait(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [&] { return queue_.empty() && !busy_; });
}

// What has come due joins the queue. REQUIRES: mutex_ is held.
void Worker::QueueDue() {
  const Clock::time_point now = Clock::now();
  while (!later_.empty() && later_.begin()->first <= now) {
    queue_.push_back(std::move(later_.begin()->second));
    later_.erase(later_.begin());
  }
}

void Worker::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    QueueDue();
    if (queue_.empty()) {
      if (ending_) return;
      if (later_.empty()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, later_.begin()->first);
      }
      continue;
    }
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    work();
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace cowl
