// ring.h: one io_uring of one thread: set-up with what the kernel has, submission, completion.
// The home of: a full submission queue (requests wait in a backlog), completion overflow (the
// kernel keeps them; the next turn fetches them), EINTR and EAGAIN of the ring itself, and of the
// moment before sleep (look_out.h). EAGAIN and short I/O of a request belong to uring_file and
// uring_socket. Threads: made on any thread, used
// on the one that calls Enable; the kernel enforces it where it can. Ownership: a RingOp belongs to
// its submitter, stays where it is, and ends with exactly one Complete, on the ring's thread.
#pragma once

#include <liburing.h>

#include <chrono>
#include <coroutine>
#include <cstdint>
#include <deque>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "io/look_out.h"

namespace cowl {

// One request in the ring. Prepare may run later than Submit, so all it needs lives in the op.
class RingOp {
 public:
  virtual void Prepare(io_uring_sqe* entry) = 0;
  // `result`: as the system call would return, or a negative errno. The op may destroy itself here.
  virtual void Complete(int result) = 0;

 protected:
  RingOp() = default;
  RingOp(const RingOp&) = delete;
  RingOp& operator=(const RingOp&) = delete;
  virtual ~RingOp() = default;
};

class Ring {
 public:
  // Unavailable names what the kernel lacks or forbids, and the remedy.
  static absl::StatusOr<std::unique_ptr<Ring>> Make();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  // Makes the calling thread the ring's.
  void Enable();
  void Disable();

  void Submit(RingOp& op);
  // Asks the kernel to end `op`, which still completes (ECANCELED, or as if not asked).
  void Cancel(RingOp& op);
  // Hands over what was submitted, waits for a completion or until `timeout` (negative: no limit),
  // and completes all there are.
  void WaitAndDispatch(std::chrono::nanoseconds timeout);

  // Submitted and not completed, cancellations included.
  size_t in_flight_count() const { return in_flight_count_; }

 private:
  Ring() = default;
  absl::Status SetUp();
  absl::Status CheckFeatures();
  bool Prepare(RingOp& op);
  void PrepareBacklog();
  void Enter(std::chrono::nanoseconds timeout);
  bool HasCompletions() const;
  // True: there is a completion.
  bool LookOutFor(std::chrono::nanoseconds time);
  unsigned Dispatch();

  io_uring ring_{};
  bool is_set_up_ = false;
  size_t in_flight_count_ = 0;
  std::deque<RingOp*> backlog_;
  LookOut look_out_;
};

// Awaits one RingOp: `Derived op(...); const int result = co_await op;`
// `slot` points to the op while it is in the ring, for whoever may want to cancel it; it must be
// empty before.
class AwaitedOp : public RingOp {
 public:
  AwaitedOp(Ring& ring, RingOp*& slot) : ring_(ring), slot_(slot) {}
  void Complete(int result) final {
    result_ = result;
    slot_ = nullptr;
    waiter_.resume();
  }
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    COWL_CHECK(slot_ == nullptr);  // one Receive, one Send, one Accept at a time
    waiter_ = waiter;
    slot_ = this;
    ring_.Submit(*this);
  }
  int await_resume() const noexcept { return result_; }

 private:
  Ring& ring_;
  RingOp*& slot_;
  std::coroutine_handle<> waiter_;
  int result_ = 0;
};

}  // namespace cowl
