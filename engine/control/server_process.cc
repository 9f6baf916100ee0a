#include "control/server_process.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_cat.h"
#include "attach/attach.h"
#include "attach/keeper.h"
#include "base/log.h"
#include "base/status.h"
#include "control/commands.h"
#include "control/control_client.h"
#include "control/control_server.h"
#include "control/hold.h"
#include "control/host.h"
#include "control/lease_table.h"
#include "control/log.h"
#include "control/version.h"
#include "cowl/store.h"
#include "nbd/server.h"
#include "nbd/uri.h"

namespace cowl {
namespace {

constexpr auto kDrainTimeout =
    std::chrono::seconds(9);  // and a second for what is cut then: ten in all
constexpr auto kIdlePatience =
    std::chrono::seconds(30);  // of a server that was started for somebody who never came
constexpr int kTickMs = 1000;

class ServerProcess : public ServerFacts {
 public:
  explicit ServerProcess(const ServeOptions& options)
      : options_(options),
        hold_(
            options.ends_by_itself, [this] { return IsAttached(); }, [this] { End(); }) {}

  absl::Status Run();

  std::vector<std::string> UrisOf(const std::string& name) const override;

 private:
  absl::Status Start();
  absl::Status OpenStore();
  absl::Status Listen();
  void StartStream();
  void WaitForEnd();
  void Stop();
  [[noreturn]] void EndWithoutClosing();
  void End();  // any thread
  bool IsAttached() const;

  // Commands of the server itself, before those of the table.
  absl::StatusOr<Json> Dispatch(const std::string& verb, const Json& args, Session& session);
  absl::StatusOr<Json> RunHold(Session& session);
  absl::StatusOr<Json> RunWhere(const Json& args) const;

  const ServeOptions& options_;
  UniqueFd signals_;
  UniqueFd end_event_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<NbdServer> nbd_;
  std::vector<std::string> uris_;  // constant once the control server runs
  HoldCounter hold_;
  std::unique_ptr<LeaseTable> leases_;
  std::unique_ptr<ControlServer> control_;
  std::thread stream_;
  std::unique_ptr<AttachmentKeeper> keeper_;
};

absl::Status ServerProcess::Run() {
  const absl::Status started = Start();
  absl::Status status = started;
  if (started.ok() && options_.ready) status = options_.ready(uris_);
  if (status.ok()) {
    NotifySupervisor("READY=1");
    WaitForEnd();
  }
  NotifySupervisor("STOPPING=1");
  Stop();
  return status;
}

absl::Status ServerProcess::Start() {
  signals_ = BlockEndingSignals();
  if (!signals_.valid()) return ErrnoStatus(errno, "make", "a descriptor for signals");
  end_event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!end_event_.valid()) return ErrnoStatus(errno, "make", "an event");
  PrepareHostForServing();
  COWL_RETURN_IF_ERROR(OpenStore());
  COWL_RETURN_IF_ERROR(Listen());
  leases_ = std::make_unique<LeaseTable>(*store_);
  ControlServerOptions control;
  control.directory = options_.directory;
  control.version = ProgramVersion();
  COWL_ASSIGN_OR_RETURN(
      control_, ControlServer::Start(
                    control, [this](const std::string& verb, const Json& args, Session& session) {
                      return Dispatch(verb, args, session);
                    }));
  if (!options_.stdio_name.empty()) StartStream();
  // Kernel devices that a server before us left wait for us to listen, and ours may need new
  // connections.
  keeper_ = std::make_unique<AttachmentKeeper>(options_.directory, [](const absl::Status& status) {
    Log().warn("attached devices: {}", Message(status));
  });
  return absl::OkStatus();
}

absl::Status ServerProcess::OpenStore() {
  auto other = ControlClient::Connect(options_.directory, ProgramVersion());
  if (other.ok() && *other) {
    return AlreadyExists(absl::StrCat("store ", options_.directory, kStoreIsServedAlready,
                                      (*other)->server_pid(),
                                      ": use that server, or end it with cowl stop"));
  }
  StoreOptions open;
  open.threads = options_.threads;
  open.io = options_.io;
  COWL_ASSIGN_OR_RETURN(store_, Store::Open(options_.directory, open));
  const std::string& default_name =
      options_.stdio_name.empty() ? options_.default_name : options_.stdio_name;
  if (default_name.empty()) return absl::OkStatus();
  COWL_RETURN_IF_ERROR(store_->Inspect(default_name).status());  // must be there
  store_->SetDefaultExport(default_name);
  return absl::OkStatus();
}

absl::Status ServerProcess::Listen() {
  ServerOptions server;
  server.io = options_.io == "sync" ? IoBackend::kSync : IoBackend::kUring;
  server.connections_max = static_cast<size_t>(options_.connections_max);
  server.handshake_timeout = std::chrono::seconds(options_.handshake_timeout_s);
  server.session.inflight_max = static_cast<size_t>(options_.inflight_max);
  server.session.inflight_bytes_max = options_.inflight_bytes_max;
  COWL_ASSIGN_OR_RETURN(nbd_, NbdServer::Start(server, store_->exports()));
  if (!options_.stdio_name.empty()) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(uris_, nbd_->ListenActivated());
  std::vector<std::string> listens = options_.listens;
  if (listens.empty() && uris_.empty())
    listens.push_back(absl::StrCat("unix:", options_.directory, "/nbd.sock"));
  for (const std::string& listen : listens) {
    COWL_ASSIGN_OR_RETURN(std::string uri, nbd_->Listen(listen));
    uris_.push_back(std::move(uri));
  }
  return absl::OkStatus();
}

void ServerProcess::StartStream() {
  stream_ = std::thread([this] {
    const absl::Status status =
        nbd_->ServeStream(UniqueFd(::dup(STDIN_FILENO)), UniqueFd(::dup(STDOUT_FILENO)));
    if (!status.ok()) Log().warn("client on stdin and stdout: {}", Message(status));
    End();
  });
}

void ServerProcess::WaitForEnd() {
  while (true) {
    pollfd poll_fds[] = {{signals_.get(), POLLIN, 0}, {end_event_.get(), POLLIN, 0}};
    if (::poll(poll_fds, 2, kTickMs) > 0) return;
    leases_->ReleaseOrphans();
    hold_.EndWhenIdle(kIdlePatience);
  }
}

// The reverse of Start. The control socket goes first: what comes from now on finds no server, and
// waits for the store.
void ServerProcess::Stop() {
  End();
  keeper_.reset();
  if (control_) control_->Stop();
  if (nbd_) {
    if (const absl::Status status = nbd_->Drain(kDrainTimeout); !status.ok())
      Log().warn("drain: {}", Message(status));
    if (nbd_->connection_count() > 0) EndWithoutClosing();
  }
  if (stream_.joinable()) stream_.join();
  leases_.reset();
  nbd_.reset();
  store_.reset();
}

// A disk that does not answer holds requests, and closing it would wait for them without end. What
// was answered is with the kernel: the next to open the store finds it as after a kill.
void ServerProcess::EndWithoutClosing() {
  Log().error("a disk does not answer: ending without closing the store");
  Log().flush();
  ::_exit(0);
}

void ServerProcess::End() {
  const uint64_t one = 1;
  if (end_event_.valid()) {
    [[maybe_unused]] const ssize_t written = ::write(end_event_.get(), &one, sizeof(one));
  }
}

bool ServerProcess::IsAttached() const {
  const auto attachments = Attachments(options_.directory);
  return !attachments.ok() || !attachments->empty();
}

std::vector<std::string> ServerProcess::UrisOf(const std::string& name) const {
  std::vector<std::string> uris;
  for (const std::string& uri : uris_) uris.push_back(nbd::UriForExport(uri, name));
  return uris;
}

absl::StatusOr<Json> ServerProcess::Dispatch(const std::string& verb, const Json& args,
                                             Session& session) {
  if (verb == "hold") return RunHold(session);
  if (verb == "where") return RunWhere(args);
  if (verb == "stop") {
    End();
    return Json::object();
  }
  auto result = RunCommand(*store_, this, verb, args, session);
  if (verb == "freeze" && result.ok())
    leases_->Add(TextOr(*result, "token", ""), session.client_pid);
  if (verb == "release") leases_->Forget(TextOr(args, "token", ""));
  return result;
}

// Keeps this server from ending by itself until the client finishes sending.
absl::StatusOr<Json> ServerProcess::RunHold(Session& session) {
  COWL_RETURN_IF_ERROR(hold_.Begin());
  session.progress(0, 0);
  pollfd poll_fds[] = {{session.client_fd, POLLRDHUP, 0}, {end_event_.get(), POLLIN, 0}};
  while (::poll(poll_fds, 2, -1) < 0 && errno == EINTR) {
  }
  const bool is_ending = hold_.End();
  return Json::object({{"ending", is_ending}});
}

absl::StatusOr<Json> ServerProcess::RunWhere(const Json& args) const {
  Json json;
  json["uris"] = UrisOf(TextOr(args, "name", ""));
  json["listeners"] = uris_;
  return json;
}

}  // namespace

absl::Status Serve(const ServeOptions& options) {
  LogForServers();
  return ServerProcess(options).Run();
}

}  // namespace cowl
