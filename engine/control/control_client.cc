#include "control/control_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/socket_path.h"

namespace cowl {
namespace {

constexpr int kHelloTimeoutMs = 10'000;

// The process at the other end, as the kernel knows it; invalid when it is in a namespace where it
// has no number here.
UniqueFd OpenProcess(int socket, pid_t* pid) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0)
    return UniqueFd();
  *pid = peer.pid;
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
}

// An invalid descriptor: nobody listens.
absl::StatusOr<UniqueFd> ConnectSocket(const std::string& directory) {
  const UniqueFd folder(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return UniqueFd();  // opening the store says what is wrong with it
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoStatus(errno, "make a socket for", directory);
  const sockaddr_un address = SocketAddressAt(folder.get(), kControlSocketName);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0)
    return socket;
  if (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR) return UniqueFd();
  if (errno == EACCES || errno == EPERM) {
    return absl::PermissionDeniedError(absl::StrCat(
        "store ", directory, " is served by another user's process: run as that user or as root"));
  }
  return ErrnoStatus(errno, "connect to the server at",
                     absl::StrCat(directory, "/", kControlSocketName));
}

absl::Status EndedBeforeItBegan() {
  return Unavailable("the server of this store ended before it began with this command: try again");
}

}  // namespace

ControlClient::ControlClient(UniqueFd socket, std::string version)
    : channel_(std::move(socket)), version_(std::move(version)) {
  process_ = OpenProcess(channel_.fd(), &pid_);
}

absl::StatusOr<std::optional<ControlClient>> ControlClient::Connect(const std::string& directory,
                                                                    const std::string& version) {
  COWL_ASSIGN_OR_RETURN(UniqueFd socket, ConnectSocket(directory));
  if (!socket.valid()) return std::optional<ControlClient>();
  ControlClient client(std::move(socket), version);
  ReceiveOptions receive;
  receive.timeout_ms = kHelloTimeoutMs;
  auto hello = client.channel_.Receive(receive);
  // Closed before the greeting: a server on its way out.
  if (absl::IsCancelled(hello.status()) || absl::IsUnavailable(hello.status()))
    return std::optional<ControlClient>();
  if (absl::IsDeadlineExceeded(hello.status())) {
    return absl::DeadlineExceededError(
        absl::StrCat("the server of store ", directory, " (pid ", client.pid_,
                     ") does not answer: look at it, or end it with kill"));
  }
  COWL_RETURN_IF_ERROR(hello.status());
  COWL_RETURN_IF_ERROR(client.CheckHello(*hello, directory));
  return std::optional<ControlClient>(std::move(client));
}

absl::Status ControlClient::CheckHello(const Json& hello, const std::string& directory) {
  const std::string type = TextOr(hello, "type", "");
  if (type == "error") return StatusFromJson(hello);
  if (type != "hello")
    return InvalidArgument(
        absl::StrCat("what listens in store ", directory, " is not a server of cowl"));
  const std::string theirs = TextOr(hello, "version", "of an unknown version");
  if (NumberOr(hello, "protocol", 0) == kControlProtocol && theirs == version_)
    return absl::OkStatus();
  return FailedPrecondition(absl::StrCat(
      "the server of store ", directory, " is cowl ", theirs, " and this command is cowl ",
      version_, ": use the same version, or end the server (pid ", pid_, ") first"));
}

absl::Status ControlClient::SendRequest(const std::string& verb, const Json& args,
                                        std::span<const int> fds) {
  Json request;
  request["type"] = "run";
  request["protocol"] = kControlProtocol;
  request["version"] = version_;
  request["verb"] = verb;
  request["args"] = args.is_object() ? args : Json::object();
  const absl::Status sent = channel_.Send(request, fds);
  return absl::IsUnavailable(sent) ? EndedBeforeItBegan() : sent;
}

absl::StatusOr<Json> ControlClient::AwaitResult(const Progress& progress,
                                                const std::function<bool()>& interrupted) {
  ReceiveOptions receive;
  receive.bytes_max = kReplyBytesMax;
  receive.interrupted = interrupted;
  while (true) {
    auto reply = channel_.Receive(receive);
    if (absl::IsUnavailable(reply.status()) ||
        (absl::IsCancelled(reply.status()) && !(interrupted && interrupted()))) {
      if (!has_begun_) return EndedBeforeItBegan();
      return absl::AbortedError(
          "the server ended before it answered: look whether the command took effect, then repeat "
          "it");
    }
    COWL_RETURN_IF_ERROR(reply.status());
    const std::string type = TextOr(*reply, "type", "");
    if (type == "result") return (*reply)["value"];
    if (type == "error") return StatusFromJson(*reply);
    if (type == "begun") has_begun_ = true;
    if (type == "progress" && progress &&
        !progress(NumberOr(*reply, "done", 0), NumberOr(*reply, "total", 0))) {
      return absl::CancelledError("interrupted");
    }
  }
}

absl::Status ControlClient::AwaitProgress() {
  bool is_held = false;
  const auto first = AwaitResult([&](uint64_t, uint64_t) { return is_held = true, false; });
  if (is_held) return absl::OkStatus();
  return first.ok() ? Internal("the server let go at once") : first.status();
}

absl::StatusOr<Json> ControlClient::Call(const std::string& verb, const Json& args,
                                         std::span<const int> fds, const Progress& progress,
                                         const std::function<bool()>& interrupted) {
  COWL_RETURN_IF_ERROR(SendRequest(verb, args, fds));
  return AwaitResult(progress, interrupted);
}

bool ControlClient::WaitGone(int timeout_ms) {
  if (!process_.valid()) {
    ReceiveOptions receive;
    receive.timeout_ms = timeout_ms;
    const auto end = channel_.Receive(receive);
    return absl::IsCancelled(end.status()) || absl::IsUnavailable(end.status());
  }
  pollfd poll_fd{process_.get(), POLLIN, 0};
  int ready;
  do {
    ready = ::poll(&poll_fd, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

}  // namespace cowl
