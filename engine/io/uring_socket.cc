#include "io/uring_socket.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "io/stream_parts.h"
#include "io/system_file.h"

namespace cowl {
namespace {

constexpr uint64_t kCurrentPosition = static_cast<uint64_t>(-1);

class PollOp final : public AwaitedOp {
 public:
  PollOp(Ring& ring, RingOp*& slot, int fd, unsigned events)
      : AwaitedOp(ring, slot), fd_(fd), events_(events) {}
  void Prepare(io_uring_sqe* entry) override { io_uring_prep_poll_add(entry, fd_, events_); }

 private:
  const int fd_;
  const unsigned events_;
};

class ReceiveOp final : public AwaitedOp {
 public:
  ReceiveOp(Ring& ring, RingOp*& slot, int fd, bool is_socket, std::span<std::byte> into)
      : AwaitedOp(ring, slot), fd_(fd), is_socket_(is_socket), into_(into) {}
  void Prepare(io_uring_sqe* entry) override {
    if (is_socket_) {
      io_uring_prep_recv(entry, fd_, into_.data(), into_.size(), 0);
    } else {
      io_uring_prep_read(entry, fd_, into_.data(), static_cast<unsigned>(into_.size()),
                         kCurrentPosition);
    }
  }

 private:
  const int fd_;
  const bool is_socket_;
  const std::span<std::byte> into_;
};

class SendOp final : public AwaitedOp {
 public:
  SendOp(Ring& ring, RingOp*& slot, int fd, bool is_socket, std::span<const iovec> from)
      : AwaitedOp(ring, slot), fd_(fd), is_socket_(is_socket) {
    message_.msg_iov = const_cast<iovec*>(from.data());
    message_.msg_iovlen = from.size();
  }
  void Prepare(io_uring_sqe* entry) override {
    if (is_socket_) {
      // MSG_WAITALL: newer kernels resume a short send themselves; the caller resumes for the
      // others.
      io_uring_prep_sendmsg(entry, fd_, &message_, MSG_NOSIGNAL | MSG_WAITALL);
    } else {
      io_uring_prep_writev(entry, fd_, message_.msg_iov, static_cast<unsigned>(message_.msg_iovlen),
                           kCurrentPosition);
    }
  }

 private:
  const int fd_;
  const bool is_socket_;
  msghdr message_{};
};

class AcceptOp final : public AwaitedOp {
 public:
  AcceptOp(Ring& ring, RingOp*& slot, int fd) : AwaitedOp(ring, slot), fd_(fd) {}
  void Prepare(io_uring_sqe* entry) override {
    io_uring_prep_accept(entry, fd_, nullptr, nullptr, SOCK_CLOEXEC);
  }

 private:
  const int fd_;
};

class UringStream final : public Stream, public Endable {
 public:
  // `out` is not valid for a socket that goes both ways.
  UringStream(UringLoop& loop, UniqueFd in, UniqueFd out)
      : loop_(loop),
        in_(std::move(in)),
        out_(std::move(out)),
        in_is_socket_(IsSocket(in_.get())),
        out_is_socket_(out_.valid() ? IsSocket(out_.get()) : in_is_socket_) {
    loop_.Link(*this);
  }

  ~UringStream() override {
    COWL_CHECK(receiving_ == nullptr && sending_ == nullptr);
    loop_.Unlink(*this);
  }

  Task<absl::StatusOr<size_t>> Receive(std::span<std::byte> into) override {
    COWL_CHECK(!into.empty());
    for (;;) {
      if (is_shut_down_) co_return StreamEnded();
      ReceiveOp op(loop_.ring(), receiving_, in_.get(), in_is_socket_,
                   into.first(std::min(into.size(), kBytesMax)));
      const int result = co_await op;
      if (is_shut_down_) co_return StreamEnded();
      if (result >= 0) co_return static_cast<size_t>(result);
      if (result == -EAGAIN) {
        PollOp readable(loop_.ring(), receiving_, in_.get(), POLLIN);
        co_await readable;
      } else if (result != -EINTR) {
        co_return ErrnoStatus(-result, "receive", "from the connection");
      }
    }
  }

  Task<absl::Status> Send(std::span<const iovec> buffers) override {
    IoCursor cursor(buffers);
    while (!cursor.AtEnd()) {
      if (is_shut_down_) co_return StreamEnded();
      SendOp op(loop_.ring(), sending_, out_fd(), out_is_socket_, cursor.Remaining());
      const int result = co_await op;
      if (result > 0) {
        cursor.Advance(static_cast<uint64_t>(result));
      } else if (is_shut_down_) {
        co_return StreamEnded();
      } else if (result == -EAGAIN) {
        PollOp writable(loop_.ring(), sending_, out_fd(), POLLOUT);
        co_await writable;
      } else if (result != -EINTR) {
        co_return ErrnoStatus(result == 0 ? EPIPE : -result, "send", "to the connection");
      }
    }
    co_return absl::OkStatus();
  }

  void Shutdown() override {
    if (is_shut_down_) return;
    is_shut_down_ = true;
    // A pair may be somebody else's terminal or pipe as well: only our own waiting ends.
    if (in_is_socket_ && !out_.valid()) ::shutdown(in_.get(), SHUT_RDWR);
    if (receiving_ != nullptr) loop_.ring().Cancel(*receiving_);
    if (sending_ != nullptr) loop_.ring().Cancel(*sending_);
  }

  void End() override { Shutdown(); }

  UniqueFd Detach() override {
    COWL_CHECK(receiving_ == nullptr && sending_ == nullptr);
    is_shut_down_ = true;
    return out_.valid() ? UniqueFd() : std::move(in_);
  }

 private:
  static constexpr size_t kBytesMax = 1 << 30;

  int out_fd() const { return out_.valid() ? out_.get() : in_.get(); }

  UringLoop& loop_;
  UniqueFd in_;
  UniqueFd out_;
  const bool in_is_socket_;
  const bool out_is_socket_;
  bool is_shut_down_ = false;
  RingOp* receiving_ = nullptr;
  RingOp* sending_ = nullptr;
};

class UringListener final : public Listener, public Endable {
 public:
  UringListener(UringLoop& loop, UniqueFd fd) : loop_(loop), fd_(std::move(fd)) {
    loop_.Link(*this);
  }
  ~UringListener() override {
    COWL_CHECK(accepting_ == nullptr);
    loop_.Unlink(*this);
  }

  Task<absl::StatusOr<UniqueFd>> Accept() override {
    while (!is_closed_) {
      AcceptOp op(loop_.ring(), accepting_, fd_.get());
      const int result = co_await op;
      if (is_closed_) fd_.Reset();  // Close left that to us
      // A connection that came before the cancellation is handed out: its peer has seen it
      // accepted.
      if (result >= 0) co_return UniqueFd(result);
      if (is_closed_) break;
      if (result == -EAGAIN) {
        PollOp readable(loop_.ring(), accepting_, fd_.get(), POLLIN);
        co_await readable;
        if (is_closed_) fd_.Reset();
      } else if (!IsPassingAcceptError(-result)) {
        co_return ErrnoStatus(-result, "accept", "a connection");
      }
    }
    co_return ListenerClosed();
  }

  void Close() override {
    if (is_closed_) return;
    is_closed_ = true;
    if (accepting_ == nullptr) {
      fd_.Reset();
    } else {
      loop_.ring().Cancel(*accepting_);
    }
  }

  void End() override { Close(); }

 private:
  UringLoop& loop_;
  UniqueFd fd_;
  bool is_closed_ = false;
  RingOp* accepting_ = nullptr;
};

}  // namespace

std::unique_ptr<Stream> MakeUringStream(UringLoop& loop, UniqueFd fd) {
  return std::make_unique<UringStream>(loop, std::move(fd), UniqueFd());
}

std::unique_ptr<Stream> MakeUringStreamPair(UringLoop& loop, UniqueFd in, UniqueFd out) {
  return std::make_unique<UringStream>(loop, std::move(in), std::move(out));
}

std::unique_ptr<Listener> MakeUringListener(UringLoop& loop, UniqueFd fd) {
  return std::make_unique<UringListener>(loop, std::move(fd));
}

}  // namespace cowl
