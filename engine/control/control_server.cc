#include "control/control_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/socket_path.h"

namespace cowl {
namespace {

constexpr int kBacklog = 128;

Json Hello(const std::string& version) {
  Json json;
  json["type"] = "hello";
  json["protocol"] = kControlProtocol;
  json["version"] = version;
  json["pid"] = static_cast<unsigned>(::getpid());
  return json;
}

Json ErrorReply(const absl::Status& status) {
  Json json = StatusToJson(status);
  json["type"] = "error";
  return json;
}

absl::Status CheckPeer(int socket, int* pid) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoStatus(errno, "ask who connected to", "the control socket");
  }
  *pid = peer.pid;
  if (peer.uid == 0 || peer.uid == ::geteuid()) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat("the store's server runs as user ", ::geteuid(),
                                                  ", you are user ", peer.uid,
                                                  ": only that user and root may use it"));
}

absl::Status CheckVersion(const Json& request, const std::string& version) {
  const std::string theirs = TextOr(request, "version", "of an unknown version");
  if (NumberOr(request, "protocol", 0) == kControlProtocol && theirs == version)
    return absl::OkStatus();
  return FailedPrecondition(absl::StrCat(
      "the server of this store is cowl ", version, " and this command is cowl ", theirs,
      ": use the same version, or end the server (pid ", ::getpid(), ") first"));
}

// Progress of one command: sent now and then, and the place where a client that left is noticed.
class ProgressSender {
 public:
  ProgressSender(Channel& channel, const std::atomic<bool>& stopping, int interval_ms)
      : channel_(channel), stopping_(stopping), interval_(interval_ms) {}

  bool Report(uint64_t done, uint64_t total) {
    std::lock_guard lock(mutex_);
    if (is_cancelled_ || stopping_ || channel_.PeerFinished()) return is_cancelled_ = true, false;
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < interval_) return true;
    last_ = now;
    Json message;
    message["type"] = "progress";
    message["done"] = done;
    message["total"] = total;
    is_cancelled_ = !channel_.Send(message).ok();
    return !is_cancelled_;
  }

 private:
  Channel& channel_;
  const std::atomic<bool>& stopping_;
  const std::chrono::milliseconds interval_;
  std::mutex mutex_;  // commands may report from several threads
  std::chrono::steady_clock::time_point last_{};
  bool is_cancelled_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(ControlServerOptions options,
                                                                    Dispatcher dispatcher) {
  std::unique_ptr<ControlServer> server(
      new ControlServer(std::move(options), std::move(dispatcher)));
  COWL_RETURN_IF_ERROR(server->Bind());
  server->accept_thread_ = std::thread(&ControlServer::AcceptLoop, server.get());
  return server;
}

ControlServer::~ControlServer() { Stop(); }

// The socket gets its mode under a name that nobody knows and then takes the stale one's place:
// there is no moment at which it can be reached by others, and none at which a live name leads
// nowhere.
absl::Status ControlServer::Bind() {
  const std::string path = absl::StrCat(options_.directory, "/", kControlSocketName);
  directory_ = UniqueFd(::open(options_.directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory_.valid()) return ErrnoStatus(errno, "open", options_.directory);
  listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_.valid()) return ErrnoStatus(errno, "make a socket for", path);
  stop_event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event_.valid()) return ErrnoStatus(errno, "make an event for", path);
  const std::string fresh = absl::StrCat(kControlSocketName, ".new");
  ::unlinkat(directory_.get(), fresh.c_str(), 0);
  const sockaddr_un address = SocketAddressAt(directory_.get(), fresh);
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(errno, "bind", path);
  }
  if (::fchmodat(directory_.get(), fresh.c_str(), 0600, 0) != 0 ||
      ::listen(listener_.get(), kBacklog) != 0 ||
      ::renameat(directory_.get(), fresh.c_str(), directory_.get(), kControlSocketName) != 0) {
    return ErrnoStatus(errno, "listen on", path);
  }
  return absl::OkStatus();
}

void ControlServer::Stop() {
  if (!accept_thread_.joinable()) return;
  ::unlinkat(directory_.get(), kControlSocketName, 0);
  stopping_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(stop_event_.get(), &one, sizeof(one));
  accept_thread_.join();
  std::unique_lock lock(mutex_);
  for (const int fd : awaited_) ::shutdown(fd, SHUT_RD);
  ended_.wait(lock, [this] { return connection_count_ == 0; });
}

void ControlServer::AcceptLoop() {
  while (!stopping_) {
    pollfd poll_fds[] = {{listener_.get(), POLLIN, 0}, {stop_event_.get(), POLLIN, 0}};
    ::poll(poll_fds, 2, -1);
    if (stopping_) break;
    UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket.valid()) {
      StartConnection(std::move(socket));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      // Out of descriptors: the connection stays in the queue; look again when some may have been
      // closed.
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  listener_.Reset();
}

void ControlServer::StartConnection(UniqueFd socket) {
  {
    std::lock_guard lock(mutex_);
    if (connection_count_ >= kConnectionsMax) {
      Channel channel(std::move(socket));
      const absl::Status refused =
          Unavailable("the server runs as many commands as it can: try again");
      [[maybe_unused]] const absl::Status sent = channel.Send(ErrorReply(refused));
      return;
    }
    ++connection_count_;
  }
  try {
    std::thread([this, fd = socket.get()] { Serve(UniqueFd(fd)); }).detach();
    socket.Release();
  } catch (const std::system_error&) {
    std::lock_guard lock(mutex_);
    --connection_count_;
  }
}

void ControlServer::Serve(UniqueFd socket) {
  {
    Channel channel(std::move(socket));
    if (const absl::Status status = Converse(channel); !status.ok()) {
      [[maybe_unused]] const absl::Status sent = channel.Send(ErrorReply(status));
    }
  }
  std::lock_guard lock(mutex_);
  --connection_count_;
  ended_.notify_all();
}

absl::Status ControlServer::Converse(Channel& channel) {
  Session session;
  COWL_RETURN_IF_ERROR(CheckPeer(channel.fd(), &session.client_pid));
  COWL_RETURN_IF_ERROR(channel.Send(Hello(options_.version)));
  COWL_ASSIGN_OR_RETURN(const Json request, AwaitRequest(channel, session));
  COWL_RETURN_IF_ERROR(CheckVersion(request, options_.version));
  COWL_ASSIGN_OR_RETURN(Json value, Run(channel, request, session));
  Json reply;
  reply["type"] = "result";
  reply["value"] = std::move(value);
  return channel.Send(reply);
}

// A client that connects and says nothing must not hold up Stop.
absl::StatusOr<Json> ControlServer::AwaitRequest(Channel& channel, Session& session) {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return Unavailable("the server is ending");
    awaited_.insert(channel.fd());
  }
  ReceiveOptions receive;
  receive.timeout_ms = options_.request_timeout_ms;
  auto request = channel.Receive(receive, &session.fds);
  std::lock_guard lock(mutex_);
  awaited_.erase(channel.fd());
  return request;
}

absl::StatusOr<Json> ControlServer::Run(Channel& channel, const Json& request, Session& session) {
  COWL_ASSIGN_OR_RETURN(const std::string verb, GetText(request, "verb"));
  const auto args = request.find("args");
  if (args == request.end() || !args->is_object())
    return InvalidArgument("a request brought no arguments");
  ProgressSender sender(channel, stopping_, options_.progress_interval_ms);
  session.progress = [&sender](uint64_t done, uint64_t total) {
    return sender.Report(done, total);
  };
  session.client_fd = channel.fd();
  Json begun;
  begun["type"] = "begun";
  COWL_RETURN_IF_ERROR(channel.Send(begun));
  return dispatcher_(verb, *args, session);
}

}  // namespace cowl
