// uring_loop.h: the IoLoop over io_uring: one ring, one thread.
// Threads, ownership, errors: as IoLoop. Work that has no ring operation, or that would block one,
// runs on two helper threads.
#pragma once

#include <memory>
#include <vector>

#include "io/loop_base.h"
#include "io/ring.h"

namespace cowl {

class UringFileOp;

class UringLoop final : public LoopBase {
 public:
  // Unavailable: see Ring::Make.
  static absl::StatusOr<std::unique_ptr<UringLoop>> Make();
  ~UringLoop() override;

  std::unique_ptr<Stream> WrapStream(UniqueFd fd) override;
  std::unique_ptr<Stream> WrapStreamPair(UniqueFd in, UniqueFd out) override;
  std::unique_ptr<Listener> WrapListener(UniqueFd fd) override;
  std::unique_ptr<Storage> OpenStorage(const std::string& directory) override;

  Ring& ring() { return *ring_; }
  // File operations in flight are as many as requests; their state is reused, not allocated a
  // request.
  std::vector<std::unique_ptr<UringFileOp>>& spare_file_ops() { return spare_file_ops_; }

 private:
  // Reads the wake-up descriptor for as long as the loop runs.
  class WakeOp final : public RingOp {
   public:
    explicit WakeOp(UringLoop& loop) : loop_(loop) {}
    void Arm();
    void Disarm() { ending_ = true; }
    bool armed() const { return armed_; }
    void Prepare(io_uring_sqe* entry) override;
    void Complete(int result) override;

   private:
    UringLoop& loop_;
    uint64_t count_ = 0;
    bool armed_ = false;
    bool ending_ = false;
  };

  explicit UringLoop(std::unique_ptr<Ring> ring);
  void BeginRun() override;
  void EndRun() override;
  void WaitAndDispatch(std::chrono::nanoseconds timeout) override {
    ring_->WaitAndDispatch(timeout);
  }
  size_t InFlightCount() const override {
    return ring_->in_flight_count() - (wake_op_.armed() ? 1 : 0);
  }

  std::unique_ptr<Ring> ring_;
  WakeOp wake_op_;
  std::vector<std::unique_ptr<UringFileOp>> spare_file_ops_;
};

}  // namespace cowl
