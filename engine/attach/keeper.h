// keeper.h: what a server does for the kernel devices attached to it: gives them new connections
// when it begins, and whenever the kernel gives one up.
//
// The kernel gives a connection up when a request on it takes longer than its time-out (a disk that
// is slow for half a minute is enough), and then waits for somebody to bring a new one; when the
// last is gone and nobody does, requests fail. Threads: one of its own. Ownership: made once the
// server listens; destroy it before the server stops listening. Errors: reported by the callback,
// on that thread; nothing else depends on them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "base/unique_fd.h"

namespace cowl {

class AttachmentKeeper {
 public:
  using Report = std::function<void(const absl::Status&)>;

  AttachmentKeeper(std::string store_dir, Report report);
  ~AttachmentKeeper();
  AttachmentKeeper(const AttachmentKeeper&) = delete;
  AttachmentKeeper& operator=(const AttachmentKeeper&) = delete;

 private:
  void Run();
  void ReattachAll();
  // True when the keeper is to end.
  bool WaitForWork();

  const std::string store_dir_;
  const Report report_;
  UniqueFd end_event_;
  class Links;
  std::unique_ptr<Links> links_;  // null as long as this kernel's nbd is not there
  std::thread thread_;
};

}  // namespace cowl
