// sync_loop.h: the IoLoop over plain system calls (--io sync): epoll for streams, calls and helper
// threads for files. For hosts that forbid io_uring, and for fault tools that see system calls
// only. Promises: as IoLoop. Reads that the page cache cannot serve, syncs and allocations run on
// helpers, so that none of them stalls the loop.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <memory>

#include "io/loop_base.h"

namespace cowl {

// What epoll reports to. Stays where it is from Watch to Unwatch.
class EpollTarget {
 public:
  // `events`: EPOLLIN and the like. May destroy any target, itself too.
  virtual void OnEvents(uint32_t events) = 0;

 protected:
  ~EpollTarget() = default;
};

class SyncLoop final : public LoopBase {
 public:
  static absl::StatusOr<std::unique_ptr<SyncLoop>> Make();

  std::unique_ptr<Stream> WrapStream(UniqueFd fd) override;
  std::unique_ptr<Stream> WrapStreamPair(UniqueFd in, UniqueFd out) override;
  std::unique_ptr<Listener> WrapListener(UniqueFd fd) override;
  std::unique_ptr<Storage> OpenStorage(const std::string& directory) override;

  // Reports changes of `fd` (edge-triggered) to `target`: so one tries first, and waits after
  // EAGAIN. 0 or an errno.
  int Watch(int fd, uint32_t events, EpollTarget& target);
  void Unwatch(int fd, EpollTarget& target);

  void AddWaiting() { ++waiting_count_; }
  void RemoveWaiting() { --waiting_count_; }
  // False once in a while: then a task that never has to wait lets the others run (Yield).
  bool MayGoOn() { return ++unbroken_count_ < kUnbrokenMax; }
  struct Yield {
    SyncLoop& loop;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) {
      loop.unbroken_count_ = 0;
      loop.Post([waiter] { waiter.resume(); });
    }
    void await_resume() const noexcept {}
  };

 private:
  static constexpr int kUnbrokenMax = 64;

  explicit SyncLoop(UniqueFd epoll);
  void BeginRun() override {}
  void EndRun() override {}
  void WaitAndDispatch(std::chrono::nanoseconds timeout) override;
  size_t InFlightCount() const override { return waiting_count_; }

  const UniqueFd epoll_;
  size_t waiting_count_ = 0;
  int unbroken_count_ = 0;
  std::array<epoll_event, 128> batch_{};
  int batch_count_ = 0;
};

}  // namespace cowl
