#include "io/helper_pool.h"

#include <utility>

namespace cowl {

HelperPool::~HelperPool() {
  std::vector<std::thread> threads;
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
    threads.swap(threads_);
  }
  changed_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

void HelperPool::Run(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  if (queue_.size() > idle_count_ && threads_.size() < threads_max_) {
    threads_.emplace_back([this] { Help(); });
  }
  changed_.notify_one();
}

void HelperPool::Help() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_count_;
    changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    --idle_count_;
    if (queue_.empty()) return;  // only at the end
    std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    work();
    work = nullptr;  // what it captured goes before the lock comes back
    lock.lock();
  }
}

}  // namespace cowl
