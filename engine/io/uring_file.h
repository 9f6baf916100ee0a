// uring_file.h: files whose requests complete through a ring. Where each operation runs:
// system_file.h.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "io/file.h"
#include "io/ring.h"
#include "io/system_file.h"
#include "io/uring_loop.h"

namespace cowl {

std::unique_ptr<File> MakeUringFile(UringLoop& loop, std::string path, UniqueFd fd);

class UringFile;

// A file request in the ring. Lives from Start to completion, through every resumption; then the
// loop keeps it for the next one.
class UringFileOp final : public RingOp {
 public:
  void Prepare(io_uring_sqe* entry) override;
  void Complete(int result) override;

  UringFile* file = nullptr;
  IoRequest* request = nullptr;
  IoCursor cursor;
  std::chrono::steady_clock::time_point began{};  // kSync
};

}  // namespace cowl
