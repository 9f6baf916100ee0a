#include "io/uring_loop.h"

#include <cerrno>
#include <utility>

#include "io/directory_storage.h"
#include "io/uring_file.h"
#include "io/uring_socket.h"

namespace cowl {
namespace {

constexpr size_t kHelpersMax = 2;

}  // namespace

absl::StatusOr<std::unique_ptr<UringLoop>> UringLoop::Make() {
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<Ring> ring, Ring::Make());
  return std::unique_ptr<UringLoop>(new UringLoop(std::move(ring)));
}

UringLoop::UringLoop(std::unique_ptr<Ring> ring)
    : LoopBase(kHelpersMax), ring_(std::move(ring)), wake_op_(*this) {}

UringLoop::~UringLoop() = default;

void UringLoop::WakeOp::Arm() {
  armed_ = true;
  loop_.ring().Submit(*this);
}

void UringLoop::WakeOp::Prepare(io_uring_sqe* entry) {
  io_uring_prep_read(entry, loop_.wake_fd(), &count_, sizeof(count_), 0);
}

void UringLoop::WakeOp::Complete(int result) {
  COWL_CHECK(result == sizeof(count_) || result == -EINTR || result == -EAGAIN);
  armed_ = false;
  if (!ending_) Arm();
}

void UringLoop::BeginRun() {
  ring_->Enable();
  wake_op_.Arm();
}

void UringLoop::EndRun() {
  // The kernel writes into wake_op_; so it is done before the loop may go.
  wake_op_.Disarm();
  Wake();
  while (wake_op_.armed()) ring_->WaitAndDispatch(std::chrono::nanoseconds(-1));
  ring_->Disable();
}

std::unique_ptr<Stream> UringLoop::WrapStream(UniqueFd fd) {
  return MakeUringStream(*this, std::move(fd));
}

std::unique_ptr<Stream> UringLoop::WrapStreamPair(UniqueFd in, UniqueFd out) {
  return MakeUringStreamPair(*this, std::move(in), std::move(out));
}

std::unique_ptr<Listener> UringLoop::WrapListener(UniqueFd fd) {
  return MakeUringListener(*this, std::move(fd));
}

std::unique_ptr<Storage> UringLoop::OpenStorage(const std::string& directory) {
  return MakeDirectoryStorage(directory,
                              [this](std::string path, UniqueFd fd) -> std::unique_ptr<File> {
                                return MakeUringFile(*this, std::move(path), std::move(fd));
                              });
}

}  // namespace cowl
