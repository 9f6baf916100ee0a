#include "io/sync_loop.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/status.h"
#include "io/directory_storage.h"
#include "io/sync_file.h"
#include "io/sync_socket.h"

namespace cowl {
namespace {

// More than the ring's loop has: here every read of the disk and every sync occupies one.
constexpr size_t kHelpersMax = 16;

// Rounded up: waking early would only spin.
int Milliseconds(std::chrono::nanoseconds timeout) {
  if (timeout.count() < 0) return -1;
  const int64_t ms = (timeout.count() + 999'999) / 1'000'000;
  return static_cast<int>(std::min<int64_t>(ms, std::numeric_limits<int>::max()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<SyncLoop>> SyncLoop::Make() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll.valid()) return ErrnoStatus(errno, "make", "an epoll descriptor");
  std::unique_ptr<SyncLoop> loop(new SyncLoop(std::move(epoll)));
  epoll_event event{};
  event.events = EPOLLIN;  // data.ptr stays null: the wake-up
  if (::epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_fd(), &event) != 0) {
    return ErrnoStatus(errno, "watch", "the wake-up descriptor");
  }
  return loop;
}

SyncLoop::SyncLoop(UniqueFd epoll) : LoopBase(kHelpersMax), epoll_(std::move(epoll)) {}

int SyncLoop::Watch(int fd, uint32_t events, EpollTarget& target) {
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.ptr = &target;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

void SyncLoop::Unwatch(int fd, EpollTarget& target) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  // What this turn fetched for it already must not reach it any more.
  for (int i = 0; i < batch_count_; ++i) {
    if (batch_[i].data.ptr == &target) batch_[i].events = 0;
  }
}

void SyncLoop::WaitAndDispatch(std::chrono::nanoseconds timeout) {
  unbroken_count_ = 0;
  batch_count_ = std::max(::epoll_wait(epoll_.get(), batch_.data(), static_cast<int>(batch_.size()),
                                       Milliseconds(timeout)),
                          0);
  for (int i = 0; i < batch_count_; ++i) {
    if (batch_[i].events == 0) continue;
    if (batch_[i].data.ptr == nullptr) {
      uint64_t count;
      COWL_CHECK(::read(wake_fd(), &count, sizeof(count)) == sizeof(count) || errno == EINTR);
    } else {
      static_cast<EpollTarget*>(batch_[i].data.ptr)->OnEvents(batch_[i].events);
    }
  }
  batch_count_ = 0;
}

std::unique_ptr<Stream> SyncLoop::WrapStream(UniqueFd fd) {
  return MakeSyncStream(*this, std::move(fd));
}

std::unique_ptr<Stream> SyncLoop::WrapStreamPair(UniqueFd in, UniqueFd out) {
  return MakeSyncStreamPair(*this, std::move(in), std::move(out));
}

std::unique_ptr<Listener> SyncLoop::WrapListener(UniqueFd fd) {
  return MakeSyncListener(*this, std::move(fd));
}

std::unique_ptr<Storage> SyncLoop::OpenStorage(const std::string& directory) {
  return MakeDirectoryStorage(directory,
                              [this](std::string path, UniqueFd fd) -> std::unique_ptr<File> {
                                return MakeSyncFile(*this, std::move(path), std::move(fd));
                              });
}

}  // namespace cowl
