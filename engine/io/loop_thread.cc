#include "io/loop_thread.h"

#include <pthread.h>

#include <utility>

namespace cowl {

absl::StatusOr<std::unique_ptr<LoopThread>> LoopThread::Start(IoBackend backend,
                                                              const std::string& name) {
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<IoLoop> loop, MakeIoLoop(backend));
  return std::make_unique<LoopThread>(std::move(loop), name);
}

LoopThread::LoopThread(std::unique_ptr<IoLoop> loop, const std::string& name)
    : loop_(std::move(loop)), thread_([this, name] {
        pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
        loop_->Run();
      }) {}

LoopThread::~LoopThread() { Join(); }

void LoopThread::Join() {
  if (!thread_.joinable()) return;
  loop_->Stop();
  thread_.join();
}

}  // namespace cowl
