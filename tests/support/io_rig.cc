#include "support/io_rig.h"

#include <cstdio>
#include <cstdlib>

namespace cowl {

std::vector<RigKind> LoopRigs() {
  return {{"Uring", false, IoBackend::kUring, ""},
          {"Sync", false, IoBackend::kSync, ""},
          {"UringOnTmpfs", false, IoBackend::kUring, "/dev/shm"}};
}

std::vector<RigKind> BothLoops() {
  return {{"Uring", false, IoBackend::kUring, ""}, {"Sync", false, IoBackend::kSync, ""}};
}

std::vector<RigKind> AllRigs() {
  std::vector<RigKind> rigs = LoopRigs();
  rigs.insert(rigs.begin(), {"Memory", true, IoBackend::kSync, ""});
  return rigs;
}

IoRig::IoRig(const RigKind& kind) {
  if (kind.is_memory) {
    loop_ = &inline_loop_;
    storage_ = std::make_unique<MemoryStorage>();
    return;
  }
  directory_ = std::make_unique<TempDirectory>(kind.parent);
  absl::StatusOr<std::unique_ptr<LoopThread>> thread = LoopThread::Start(kind.backend);
  if (!thread.ok()) {
    std::fprintf(stderr, "%s\n", thread.status().ToString().c_str());
    std::abort();
  }
  thread_ = *std::move(thread);
  loop_ = &thread_->loop();
  storage_ = thread_->loop().OpenStorage(directory_->path());
}

IoRig::~IoRig() = default;

void IoRig::EndThread() { thread_->Join(); }

}  // namespace cowl
