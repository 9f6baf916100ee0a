// loop_thread.h: an IoLoop and the thread that runs it.
// Ownership: owns the loop; the destructor stops it, drains and joins. What was opened on the loop
// must be gone before, or be owned by tasks that end when their streams end. Threads: made and
// destroyed on any thread but its own.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "io/socket.h"

namespace cowl {

class LoopThread {
 public:
  // Unavailable: as MakeIoLoop. `name` shows in top and gdb (15 characters).
  static absl::StatusOr<std::unique_ptr<LoopThread>> Start(IoBackend backend,
                                                           const std::string& name = "cowl-loop");

  LoopThread(std::unique_ptr<IoLoop> loop, const std::string& name);
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread();

  IoLoop& loop() { return *loop_; }

  // Stops the loop, waits for its drain and joins, as the destructor does; the loop itself stays
  // for what still refers to it.
  void Join();

 private:
  const std::unique_ptr<IoLoop> loop_;
  std::thread thread_;
};

}  // namespace cowl
