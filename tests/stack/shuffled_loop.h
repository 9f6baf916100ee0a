// shuffled_loop.h: a loop and a recording storage whose requests, helper work and timers end in an
// order that a seed picks: the interleavings a real kernel may produce, one after the other, on the
// caller's thread, and repeatable. Threads: one. Ownership: the storage outlives the loop. Tasks
// that sleep for ever are destroyed with the loop.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <random>
#include <vector>

#include "base/status.h"
#include "io/loop.h"
#include "support/recording_storage.h"

namespace cowl {

class ShuffledLoop : public Loop {
 public:
  // Holds everything that passes through `storage` from here on.
  ShuffledLoop(RecordingStorage& storage, uint64_t seed);
  ~ShuffledLoop() override;

  void Post(std::function<void()> work) override { posted_.push_back(std::move(work)); }
  bool OnLoop() const override { return true; }
  void ResumeAfter(std::chrono::nanoseconds, std::coroutine_handle<> waiter) override {
    sleepers_.push_back(waiter);
  }
  void RunAside(std::function<void()> work, std::coroutine_handle<> waiter) override {
    asides_.push_back({std::move(work), waiter});
  }

  // Lets one thing go on, if anything can without a timer running out; false when nothing can.
  bool Step();
  // Lets a timer run out.
  void WakeSomeSleeper();

  // Steps until the task has ended. CHECKs that it does.
  template <typename T>
  T Drive(Task<T> task) {
    std::optional<T> result;
    internal::RunInto(std::move(task), &result);
    while (!result.has_value()) {
      if (!Step()) {
        COWL_CHECK(!sleepers_.empty());
        WakeSomeSleeper();
      }
    }
    return *std::move(result);
  }

  std::mt19937_64& random() { return random_; }
  // As a process that is killed: nothing that waits is ever resumed. Returns after that; only the
  // destructor may follow, and the frames of what waited are kept for ever.
  void Abandon();

 private:
  struct Aside {
    std::function<void()> work;
    std::coroutine_handle<> waiter;
  };

  RecordingStorage& storage_;
  std::mt19937_64 random_;
  std::deque<std::function<void()>> posted_;
  std::vector<Aside> asides_;
  std::vector<std::coroutine_handle<>> sleepers_;
};

}  // namespace cowl
