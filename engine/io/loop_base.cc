#include "io/loop_base.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "io/stream_parts.h"

namespace cowl {
namespace {

thread_local const LoopBase* loop_of_this_thread = nullptr;

}  // namespace

// The descriptor blocks: the ring would answer EAGAIN at once on one that does not.
LoopBase::LoopBase(size_t helpers_max) : wake_fd_(eventfd(0, EFD_CLOEXEC)), helpers_(helpers_max) {
  COWL_CHECK(wake_fd_.valid());
}

LoopBase::~LoopBase() { COWL_CHECK(endables_.empty()); }

void LoopBase::Wake() {
  const uint64_t one = 1;
  ssize_t put;
  do {
    put = ::write(wake_fd_.get(), &one, sizeof(one));
  } while (put < 0 && errno == EINTR);
  COWL_CHECK(put == sizeof(one));
}

void LoopBase::Post(std::function<void()> work) {
  // Whoever fills an empty queue wakes the loop; on the loop itself the next turn looks anyway.
  const bool is_elsewhere = !OnLoop();
  // The wake-up stays under the lock: once the loop has taken the work, it may end, and nothing
  // here may touch it any more.
  std::lock_guard lock(posted_mutex_);
  const bool is_first = posted_.empty();
  posted_.push_back(std::move(work));
  has_posted_.store(true, std::memory_order_release);
  if (is_first && is_elsewhere) Wake();
}

bool LoopBase::OnLoop() const { return loop_of_this_thread == this; }

void LoopBase::ResumeAfter(std::chrono::nanoseconds delay, std::coroutine_handle<> waiter) {
  COWL_CHECK(OnLoop());
  sleepers_.push({Clock::now() + delay, sleep_order_++, waiter});
}

void LoopBase::RunAside(std::function<void()> work, std::coroutine_handle<> waiter) {
  COWL_CHECK(OnLoop());
  ++asides_in_flight_;
  helpers_.Run([this, work = std::move(work), waiter] {
    work();
    Post([this, waiter] {
      --asides_in_flight_;
      waiter.resume();
    });
  });
}

void LoopBase::Stop() {
  Post([this] { stop_asked_ = true; });
}

void LoopBase::Link(Endable& endable) {
  endable.index_ = endables_.size();
  endables_.push_back(&endable);
  if (draining_) endable.End();
}

void LoopBase::Unlink(Endable& endable) {
  endables_.back()->index_ = endable.index_;
  endables_[endable.index_] = endables_.back();
  endables_.pop_back();
}

void LoopBase::RunPosted() {
  if (!HasPosted()) return;
  {
    std::lock_guard lock(posted_mutex_);
    running_.swap(posted_);
    has_posted_.store(false, std::memory_order_relaxed);
  }
  for (std::function<void()>& work : running_) {
    work();
    work = nullptr;
  }
  running_.clear();
}

void LoopBase::WakeSleepers(Clock::time_point until) {
  // Collected first: one that sleeps again right away waits for the next turn.
  std::vector<std::coroutine_handle<>> woken;
  while (!sleepers_.empty() && sleepers_.top().wake_at <= until) {
    woken.push_back(sleepers_.top().waiter);
    sleepers_.pop();
  }
  for (const auto waiter : woken) waiter.resume();
}

std::chrono::nanoseconds LoopBase::NextTimeout() const {
  if (HasPosted()) return std::chrono::nanoseconds(0);
  if (sleepers_.empty()) return std::chrono::nanoseconds(-1);
  return std::max(sleepers_.top().wake_at - Clock::now(), std::chrono::nanoseconds(0));
}

void LoopBase::BeginDrain() {
  draining_ = true;
  for (Endable* const endable : endables_) endable->End();
  WakeSleepers(Clock::time_point::max());
}

void LoopBase::Run() {
  COWL_CHECK(!has_run_ && loop_of_this_thread == nullptr);
  const SigpipeHeld sigpipe_held;
  has_run_ = true;
  loop_of_this_thread = this;
  BeginRun();
  for (;;) {
    RunPosted();
    if (!sleepers_.empty()) WakeSleepers(Clock::now());
    if (stop_asked_ && !draining_) BeginDrain();
    if (draining_ && !HasPosted() && asides_in_flight_ == 0 && InFlightCount() == 0) break;
    WaitAndDispatch(NextTimeout());
  }
  EndRun();
  loop_of_this_thread = nullptr;
}

}  // namespace cowl
