#include "io/sync_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status.h"
#include "io/stream_parts.h"
#include "io/system_file.h"

namespace cowl {
namespace {

// One direction of a descriptor: at most one task waits in it for epoll to say go on.
class Direction {
 public:
  Direction(SyncLoop& loop, int fd) : loop_(loop), fd_(fd), is_socket_(IsSocket(fd)) {}
  Direction(const Direction&) = delete;
  Direction& operator=(const Direction&) = delete;
  ~Direction() { COWL_CHECK(!waiter_); }

  int fd() const { return fd_; }
  bool is_socket() const { return is_socket_; }

  // Awaited after EAGAIN.
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    COWL_CHECK(!waiter_);  // one Receive, one Send, one Accept at a time
    waiter_ = waiter;
    loop_.AddWaiting();
  }
  void await_resume() const noexcept {}

  std::coroutine_handle<> TakeWaiter() {
    if (waiter_) loop_.RemoveWaiting();
    return std::exchange(waiter_, {});
  }
  // Resumes the waiter, but not inside this call.
  void Release() {
    if (const auto waiter = TakeWaiter()) loop_.Post([waiter] { waiter.resume(); });
  }

 private:
  SyncLoop& loop_;
  const int fd_;
  const bool is_socket_;
  std::coroutine_handle<> waiter_;
};

// A descriptor without MSG_DONTWAIT, non-blocking for as long as this lives.
class NonBlocking {
 public:
  explicit NonBlocking(int fd) : fd_(fd), flags_(::fcntl(fd, F_GETFL)) {
    if (flags_ >= 0 && (flags_ & O_NONBLOCK) == 0) ::fcntl(fd_, F_SETFL, flags_ | O_NONBLOCK);
  }
  NonBlocking(const NonBlocking&) = delete;
  NonBlocking& operator=(const NonBlocking&) = delete;
  ~NonBlocking() {
    if (flags_ >= 0 && (flags_ & O_NONBLOCK) == 0) ::fcntl(fd_, F_SETFL, flags_);
  }

 private:
  const int fd_;
  const int flags_;
};

class SyncStream final : public Stream, public Endable, public EpollTarget {
 public:
  // `out` is not valid for a socket that goes both ways.
  SyncStream(SyncLoop& loop, UniqueFd in, UniqueFd out)
      : loop_(loop),
        in_(std::move(in)),
        out_(std::move(out)),
        input_(loop, in_.get()),
        output_(loop, out_.valid() ? out_.get() : in_.get()) {
    if (!input_.is_socket()) in_mode_ = std::make_unique<NonBlocking>(input_.fd());
    if (!output_.is_socket()) out_mode_ = std::make_unique<NonBlocking>(output_.fd());
    if (out_.valid()) {
      Watch(in_.get(), EPOLLIN | EPOLLRDHUP);
      Watch(out_.get(), EPOLLOUT);
    } else {
      Watch(in_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP);
    }
    loop_.Link(*this);
  }

  ~SyncStream() override {
    loop_.Unlink(*this);
    if (in_.valid()) loop_.Unwatch(in_.get(), *this);
    if (out_.valid()) loop_.Unwatch(out_.get(), *this);
    out_mode_.reset();  // the other way round than they were set: both may be one terminal
    in_mode_.reset();
  }

  Task<absl::StatusOr<size_t>> Receive(std::span<std::byte> into) override {
    COWL_CHECK(!into.empty());
    SyncLoop::Yield yield{loop_};
    if (!loop_.MayGoOn()) co_await yield;
    for (;;) {
      if (is_shut_down_) co_return StreamEnded();
      if (watch_error_ != 0) co_return ErrnoStatus(watch_error_, "watch", "the connection");
      const ssize_t got = input_.is_socket()
                              ? ::recv(input_.fd(), into.data(), into.size(), MSG_DONTWAIT)
                              : ::read(input_.fd(), into.data(), into.size());
      if (got >= 0) co_return static_cast<size_t>(got);
      if (errno == EAGAIN) {
        co_await input_;
      } else if (errno != EINTR) {
        co_return ErrnoStatus(errno, "receive", "from the connection");
      }
    }
  }

  Task<absl::Status> Send(std::span<const iovec> buffers) override {
    IoCursor cursor(buffers);
    SyncLoop::Yield yield{loop_};
    while (!cursor.AtEnd()) {
      if (!loop_.MayGoOn()) co_await yield;
      if (is_shut_down_) co_return StreamEnded();
      if (watch_error_ != 0) co_return ErrnoStatus(watch_error_, "watch", "the connection");
      const ssize_t sent = SendSome(cursor.Remaining());
      if (sent > 0) {
        cursor.Advance(static_cast<uint64_t>(sent));
      } else if (sent < 0 && errno == EAGAIN) {
        co_await output_;
      } else if (sent == 0 || errno != EINTR) {
        co_return ErrnoStatus(sent == 0 ? EPIPE : errno, "send", "to the connection");
      }
    }
    co_return absl::OkStatus();
  }

  void Shutdown() override {
    if (is_shut_down_) return;
    is_shut_down_ = true;
    if (input_.is_socket() && !out_.valid()) ::shutdown(in_.get(), SHUT_RDWR);
    input_.Release();
    output_.Release();
  }

  void End() override { Shutdown(); }

  UniqueFd Detach() override {
    is_shut_down_ = true;
    if (out_.valid()) return UniqueFd();
    loop_.Unwatch(in_.get(), *this);
    out_mode_.reset();
    in_mode_.reset();
    return std::move(in_);
  }

  void OnEvents(uint32_t events) override {
    // Both taken first: resuming one may end this stream.
    constexpr uint32_t kEnd = EPOLLERR | EPOLLHUP;
    const auto receiver =
        (events & (EPOLLIN | EPOLLRDHUP | kEnd)) != 0 ? input_.TakeWaiter() : nullptr;
    const auto sender = (events & (EPOLLOUT | kEnd)) != 0 ? output_.TakeWaiter() : nullptr;
    if (receiver) receiver.resume();
    if (sender) sender.resume();
  }

 private:
  ssize_t SendSome(std::span<const iovec> from) {
    if (!output_.is_socket())
      return ::writev(output_.fd(), from.data(), static_cast<int>(from.size()));
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(from.data());
    message.msg_iovlen = from.size();
    return ::sendmsg(output_.fd(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void Watch(int fd, uint32_t events) {
    const int error_number = loop_.Watch(fd, events, *this);
    // EPERM: a regular file, which never makes anybody wait.
    if (error_number != EPERM) watch_error_ = error_number;
  }

  SyncLoop& loop_;
  UniqueFd in_;
  UniqueFd out_;
  Direction input_;
  Direction output_;
  std::unique_ptr<NonBlocking> in_mode_;
  std::unique_ptr<NonBlocking> out_mode_;
  int watch_error_ = 0;
  bool is_shut_down_ = false;
};

class SyncListener final : public Listener, public Endable, public EpollTarget {
 public:
  SyncListener(SyncLoop& loop, UniqueFd fd)
      : loop_(loop), fd_(std::move(fd)), input_(loop, fd_.get()) {
    mode_ = std::make_unique<NonBlocking>(fd_.get());
    watch_error_ = loop_.Watch(fd_.get(), EPOLLIN, *this);
    loop_.Link(*this);
  }
  ~SyncListener() override {
    Close();
    loop_.Unlink(*this);
  }

  Task<absl::StatusOr<UniqueFd>> Accept() override {
    SyncLoop::Yield yield{loop_};
    if (!loop_.MayGoOn()) co_await yield;
    for (;;) {
      if (is_closed_) co_return ListenerClosed();
      if (watch_error_ != 0) co_return ErrnoStatus(watch_error_, "watch", "the listener");
      const int fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) co_return UniqueFd(fd);
      if (errno == EAGAIN) {
        co_await input_;
      } else if (!IsPassingAcceptError(errno)) {
        co_return ErrnoStatus(errno, "accept", "a connection");
      }
    }
  }

  void Close() override {
    if (is_closed_) return;
    is_closed_ = true;
    loop_.Unwatch(fd_.get(), *this);
    mode_.reset();
    fd_.Reset();
    input_.Release();
  }

  void End() override { Close(); }

  void OnEvents(uint32_t) override {
    if (const auto waiter = input_.TakeWaiter()) waiter.resume();
  }

 private:
  SyncLoop& loop_;
  UniqueFd fd_;
  Direction input_;
  std::unique_ptr<NonBlocking> mode_;
  int watch_error_ = 0;
  bool is_closed_ = false;
};

}  // namespace

std::unique_ptr<Stream> MakeSyncStream(SyncLoop& loop, UniqueFd fd) {
  return std::make_unique<SyncStream>(loop, std::move(fd), UniqueFd());
}

std::unique_ptr<Stream> MakeSyncStreamPair(SyncLoop& loop, UniqueFd in, UniqueFd out) {
  return std::make_unique<SyncStream>(loop, std::move(in), std::move(out));
}

std::unique_ptr<Listener> MakeSyncListener(SyncLoop& loop, UniqueFd fd) {
  return std::make_unique<SyncListener>(loop, std::move(fd));
}

}  // namespace cowl
