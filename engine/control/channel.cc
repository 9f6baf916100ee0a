#include "control/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr char kMagic[4] = {'C', 'O', 'W', 'L'};
constexpr int kSendTimeoutMs = 30'000;

int64_t NowMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Waits for `events`; OK when there is something to do.
absl::Status WaitFor(int fd, short events, int64_t deadline_ms, const ReceiveOptions& options) {
  while (true) {
    int wait_ms = -1;
    if (deadline_ms >= 0) {
      wait_ms = static_cast<int>(std::max<int64_t>(0, deadline_ms - NowMs()));
    }
    pollfd poll_fd{fd, events, 0};
    const int ready = ::poll(&poll_fd, 1, wait_ms);
    if (ready > 0) return absl::OkStatus();
    if (ready == 0)
      return absl::DeadlineExceededError("the other side of the control socket is silent");
    if (errno != EINTR) return ErrnoStatus(errno, "wait on", "the control socket");
    if (options.interrupted && options.interrupted()) return absl::CancelledError("interrupted");
  }
}

// Takes the descriptors out of a message that was received. False: some were lost, because there
// were too many.
bool TakeFds(msghdr& message, std::vector<UniqueFd>* fds) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      UniqueFd fd(LoadLittle<int>(CMSG_DATA(header) + i * sizeof(int)));
      if (fds != nullptr) fds->push_back(std::move(fd));
    }
  }
  return (message.msg_flags & MSG_CTRUNC) == 0;
}

bool IsGone(int error_number) { return error_number == ECONNRESET || error_number == EPIPE; }

absl::Status PeerGone() { return Unavailable("the other side of the control socket went away"); }

}  // namespace

absl::Status Channel::SendAll(std::span<const std::byte> bytes, std::span<const int> fds) {
  const int64_t deadline_ms = NowMs() + kSendTimeoutMs;
  alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))] = {};
  bool with_fds = !fds.empty();
  while (!bytes.empty()) {
    iovec buffer{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr message{};
    message.msg_iov = &buffer;
    message.msg_iovlen = 1;
    if (with_fds) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(fds.size_bytes());
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(fds.size_bytes());
      std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
    }
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      with_fds = false;
      bytes = bytes.subspan(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      COWL_RETURN_IF_ERROR(WaitFor(socket_.get(), POLLOUT, deadline_ms, {}));
    } else if (IsGone(errno)) {
      return PeerGone();
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, "send on", "the control socket");
    }
  }
  return absl::OkStatus();
}

absl::Status Channel::Send(const Json& message, std::span<const int> fds) {
  const std::string text = JsonText(message);
  if (text.size() > kReplyBytesMax || fds.size() > kFdsMax) {
    return absl::OutOfRangeError(
        absl::StrCat("a message of ", text.size(), " bytes and ", fds.size(),
                     " descriptors is more than the control socket carries"));
  }
  std::vector<std::byte> frame(kFrameHeaderBytes + text.size());
  std::memcpy(frame.data(), kMagic, sizeof(kMagic));
  StoreLittle<uint32_t>(frame.data() + sizeof(kMagic), static_cast<uint32_t>(text.size()));
  std::memcpy(frame.data() + kFrameHeaderBytes, text.data(), text.size());
  return SendAll(frame, fds);
}

absl::Status Channel::ReceiveAll(std::span<std::byte> into, bool at_start, int64_t deadline_ms,
                                 const ReceiveOptions& options, std::vector<UniqueFd>* fds) {
  bool is_first = at_start;
  while (!into.empty()) {
    COWL_RETURN_IF_ERROR(WaitFor(socket_.get(), POLLIN, deadline_ms, options));
    alignas(cmsghdr) char control[CMSG_SPACE(kFdsMax * sizeof(int))];
    iovec buffer{into.data(), into.size()};
    msghdr message{};
    message.msg_iov = &buffer;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (got < 0 && IsGone(errno)) return PeerGone();
    if (got < 0) return ErrnoStatus(errno, "receive on", "the control socket");
    if (!TakeFds(message, fds)) return InvalidArgument("a message brought too many descriptors");
    if (got == 0 && is_first)
      return absl::CancelledError("the other side closed the control socket");
    if (got == 0) return PeerGone();
    is_first = false;
    into = into.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

absl::StatusOr<Json> Channel::Receive(const ReceiveOptions& options, std::vector<UniqueFd>* fds) {
  const int64_t deadline_ms = options.timeout_ms < 0 ? -1 : NowMs() + options.timeout_ms;
  std::byte header[kFrameHeaderBytes];
  COWL_RETURN_IF_ERROR(ReceiveAll(header, /*at_start=*/true, deadline_ms, options, fds));
  if (std::memcmp(header, kMagic, sizeof(kMagic)) != 0) {
    return InvalidArgument("what came over the control socket is not a message of cowl");
  }
  const auto length = LoadLittle<uint32_t>(header + sizeof(kMagic));
  if (length > options.bytes_max) {
    return InvalidArgument(absl::StrCat("a message of ", length,
                                        " bytes came over the control socket, at most ",
                                        options.bytes_max, " are taken"));
  }
  // Grows as the bytes arrive: a header that lies costs its sender, not us.
  std::string text;
  while (text.size() < length) {
    const size_t begin = text.size();
    text.resize(std::min<size_t>(length, begin + std::max<size_t>(begin, 64 * 1024)));
    const auto part = std::as_writable_bytes(std::span(text).subspan(begin));
    COWL_RETURN_IF_ERROR(ReceiveAll(part, /*at_start=*/false, deadline_ms, options, fds));
  }
  auto message = ParseJson(text);
  if (message.ok() && !message->is_object())
    return InvalidArgument("a message is not a JSON object");
  return message;
}

void Channel::FinishSending() { ::shutdown(socket_.get(), SHUT_WR); }

bool Channel::PeerFinished() const {
  pollfd poll_fd{socket_.get(), POLLRDHUP, 0};
  return ::poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Json StatusToJson(const absl::Status& status) {
  Json json;
  json["code"] = static_cast<unsigned>(status.raw_code());
  json["message"] = Message(status);
  return json;
}

absl::Status StatusFromJson(const Json& json) {
  const uint64_t code = NumberOr(json, "code", static_cast<uint64_t>(absl::StatusCode::kInternal));
  const bool is_known =
      code > 0 && code <= static_cast<uint64_t>(absl::StatusCode::kUnauthenticated);
  return absl::Status(is_known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kInternal,
                      TextOr(json, "message", "the server gave no reason"));
}

}  // namespace cowl
