// loop_pool.h: the store's I/O threads. Each device belongs to one; devices are spread over them as
// they are opened. Threads: any. Ownership: owns the loops and what each of them sees of the
// directory; whatever was opened on a loop must be closed before. Threads start when they are first
// needed: a command that only reads the catalog has none. Errors: Unavailable when the kernel
// forbids io_uring (the message names --io sync).
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "device/data_file_cache.h"
#include "io/loop_thread.h"

namespace cowl {

// One loop and its view of the store's directory.
struct LoopSlot {
  std::unique_ptr<LoopThread> thread;
  std::unique_ptr<Storage> storage;
  std::unique_ptr<DataFileCache> files;  // used on the loop
  int device_count = 0;                  // guarded by the pool

  IoLoop& loop() { return thread->loop(); }
};

class LoopPool {
 public:
  LoopPool(std::string directory, IoBackend backend, int thread_count)
      : directory_(std::move(directory)),
        backend_(backend),
        slots_(static_cast<size_t>(thread_count)) {}
  ~LoopPool();
  LoopPool(const LoopPool&) = delete;
  LoopPool& operator=(const LoopPool&) = delete;

  // For a device that is about to be opened: the loop that has the fewest. Give it back with Leave.
  absl::StatusOr<LoopSlot*> Enter();
  void Leave(LoopSlot* slot);
  // For work of the store itself.
  absl::StatusOr<LoopSlot*> Any();
  // True on the thread of one of these loops, where nothing may block.
  bool OnALoop();

 private:
  absl::StatusOr<LoopSlot*> Started(size_t index);

  const std::string directory_;
  const IoBackend backend_;
  std::mutex mutex_;  // guards all below
  std::vector<std::unique_ptr<LoopSlot>> slots_;
};

}  // namespace cowl
