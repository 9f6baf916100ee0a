#include "stack/shuffled_loop.h"

namespace cowl {

ShuffledLoop::ShuffledLoop(RecordingStorage& storage, uint64_t seed)
    : storage_(storage), random_(seed) {
  storage_.HoldChanges(true);
  storage_.HoldReads(true);
  storage_.HoldSyncs(true);
}

ShuffledLoop::~ShuffledLoop() {
  storage_.HoldChanges(false);
  storage_.HoldReads(false);
  storage_.HoldSyncs(false);
  for (const auto sleeper : sleepers_) sleeper.destroy();
}

void ShuffledLoop::WakeSomeSleeper() {
  if (sleepers_.empty()) return;
  const size_t index = random_() % sleepers_.size();
  const std::coroutine_handle<> woken = sleepers_[index];
  sleepers_.erase(sleepers_.begin() + static_cast<ptrdiff_t>(index));
  woken.resume();
}

bool ShuffledLoop::Step() {
  // Timers are long: they run out seldom.
  if (random_() % 64 == 0) WakeSomeSleeper();
  const bool has_io = storage_.has_held();
  if (posted_.empty() && asides_.empty() && !has_io) return false;
  const uint64_t dice = random_() % 8;
  if (!posted_.empty() && (dice < 3 || (asides_.empty() && !has_io))) {
    const std::function<void()> work = std::move(posted_.front());
    posted_.pop_front();
    work();
  } else if (!asides_.empty() && (dice < 4 || !has_io)) {
    const size_t index = random_() % asides_.size();
    const Aside aside = std::move(asides_[index]);
    asides_.erase(asides_.begin() + static_cast<ptrdiff_t>(index));
    aside.work();
    aside.waiter.resume();
  } else if (has_io) {
    storage_.CompleteAny(random_);
  }
  return true;
}

void ShuffledLoop::Abandon() {
  static auto& abandoned = *new std::vector<std::coroutine_handle<>>;
  storage_.Abandon(random_);
  for (const Aside& aside : asides_) abandoned.push_back(aside.waiter);
  abandoned.insert(abandoned.end(), sleepers_.begin(), sleepers_.end());
  posted_.clear();
  asides_.clear();
  sleepers_.clear();
}

}  // namespace cowl
