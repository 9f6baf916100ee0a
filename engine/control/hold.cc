#include "control/hold.h"

#include "base/status.h"

namespace cowl {

HoldCounter::HoldCounter(bool ends_by_itself, std::function<bool()> is_attached,
                         std::function<void()> end)
    : ends_by_itself_(ends_by_itself), is_attached_(std::move(is_attached)), end_(std::move(end)) {}

absl::Status HoldCounter::Begin() {
  std::lock_guard lock(mutex_);
  if (is_ending_) return Unavailable("the server of this store is ending: try again");
  ++count_;
  ++begun_count_;
  return absl::OkStatus();
}

bool HoldCounter::End() {
  {
    std::lock_guard lock(mutex_);
    --count_;
    idle_since_ = std::chrono::steady_clock::now();
  }
  return EndIfIdle();
}

void HoldCounter::EndWhenIdle(std::chrono::seconds patience) {
  {
    std::lock_guard lock(mutex_);
    if (count_ > 0 || std::chrono::steady_clock::now() - idle_since_ < patience) return;
  }
  EndIfIdle();
}

bool HoldCounter::EndIfIdle() {
  if (!ends_by_itself_) return false;
  while (true) {
    uint64_t seen;
    {
      std::lock_guard lock(mutex_);
      if (is_ending_) return true;
      if (count_ > 0) return false;
      seen = begun_count_;
    }
    const bool is_attached = is_attached_();
    std::lock_guard lock(mutex_);
    // Whoever came meanwhile may have attached something: look again.
    if (seen != begun_count_) continue;
    if (is_attached) return false;
    is_ending_ = true;
    break;
  }
  end_();
  return true;
}

}  // namespace cowl
