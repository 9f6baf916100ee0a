// serve and stop.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "control/control_client.h"
#include "control/server_process.h"
#include "control/version.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/read_all.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr int kThreadsMax = 1024;
constexpr int kStopTimeoutMs = 30'000;

absl::Status PrintUris(const std::vector<std::string>& uris, Output& output) {
  const std::string text = uris.empty() ? "" : absl::StrJoin(uris, "\n") + "\n";
  PrintResult(output, Json::object({{"uris", uris}}), text);
  return output.Flush();
}

// The server may leave the folder it was started in.
std::string WithAbsolutePath(const std::string& listen) {
  if (!listen.starts_with("unix:")) return listen;
  std::error_code error;
  const auto path = std::filesystem::absolute(listen.substr(5), error);
  return error ? listen : absl::StrCat("unix:", path.lexically_normal().string());
}

ServeOptions OptionsOf(const Invocation& invocation) {
  ServeOptions options;
  options.directory = invocation.store;
  if (invocation.Has("--listen")) {
    for (const std::string& listen : invocation.values.at("--listen"))
      options.listens.push_back(WithAbsolutePath(listen));
  }
  options.default_name = invocation.Text("--default");
  options.stdio_name = invocation.Text("--stdio");
  options.threads = invocation.Count("--threads", 0);
  if (invocation.Has("--io")) options.io = invocation.Text("--io");
  options.connections_max = invocation.Count("--max-connections", options.connections_max);
  options.handshake_timeout_s =
      invocation.Count("--handshake-timeout", options.handshake_timeout_s);
  options.inflight_max = invocation.Count("--max-inflight", options.inflight_max);
  if (invocation.Has("--max-inflight-bytes"))
    options.inflight_bytes_max = invocation.SizeBytes("--max-inflight-bytes");
  options.ends_by_itself = invocation.Has("--until-detached");
  return options;
}

// In the background process: how it went, for the one that was started. "OK" and the URIs, else the
// error.
class Herald {
 public:
  explicit Herald(UniqueFd pipe) : pipe_(std::move(pipe)) {}
  void Tell(const Json& message) {
    if (!pipe_.valid()) return;
    const std::string text = JsonText(message);
    [[maybe_unused]] const ssize_t written = ::write(pipe_.get(), text.data(), text.size());
    pipe_.Reset();
  }

 private:
  UniqueFd pipe_;
};

// Nothing of the starter's terminal, folders and files stays with the background process.
void CutLoose(const std::string& directory, int kept_fd) {
  ::setsid();
  const std::string log = directory + "/server.log";
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  UniqueFd errors(::open(log.c_str(),
                         O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600));
  ::dup2(null.get(), STDIN_FILENO);
  ::dup2(null.get(), STDOUT_FILENO);
  ::dup2(errors.valid() ? errors.get() : null.get(), STDERR_FILENO);
  errors.Reset();
  ::syscall(SYS_close_range, STDERR_FILENO + 1, kept_fd - 1, 0);
  ::syscall(SYS_close_range, kept_fd + 1, ~0U, 0);
  if (::chdir("/") != 0) ::umask(077);
}

[[noreturn]] void ServeInBackground(ServeOptions& options, UniqueFd pipe) {
  CutLoose(options.directory, pipe.get());
  Herald herald(std::move(pipe));
  options.ready = [&](const std::vector<std::string>& uris) {
    herald.Tell(Json::object({{"uris", uris}}));
    return absl::OkStatus();
  };
  const absl::Status status = Serve(options);
  if (!status.ok()) herald.Tell(Json::object({{"error", Message(status)}}));
  ::_exit(status.ok() ? 0 : 1);
}

// The second fork makes it nobody's session leader, and a child of init.
absl::Status StartInBackground(ServeOptions& options, Output& output) {
  struct stat store {};
  if (::stat(options.directory.c_str(), &store) != 0) {
    return NotFound(
        absl::StrCat("there is no store ", options.directory, ": make one with cowl init"));
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make", "a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return ErrnoStatus(errno, "start", "a background process");
  if (child == 0) {
    ::setsid();
    if (::fork() == 0) ServeInBackground(options, std::move(to));
    ::_exit(0);
  }
  to.Reset();
  const auto answer = ParseJson(ReadAll(from.get()));
  if (!answer.ok()) {
    return Internal(absl::StrCat("the background process ended before it served: look at ",
                                 options.directory, "/server.log"));
  }
  if (const std::string error = TextOr(*answer, "error", ""); !error.empty())
    return FailedPrecondition(error);
  std::vector<std::string> uris;
  for (const Json& uri : ListOf(*answer, "uris"))
    uris.push_back(uri.is_string() ? *uri.get_ptr<const Json::string_t*>() : "");
  const absl::Status printed = PrintUris(uris, output);
  if (!printed.ok()) {
    // Nobody could learn of it.
    auto client = ControlClient::Connect(options.directory, ProgramVersion());
    if (client.ok() && *client && (*client)->Call("stop", Json::object(), {}, {}).ok())
      (*client)->WaitGone(kStopTimeoutMs);
  }
  return printed;
}

}  // namespace

absl::Status CheckServe(const Invocation& invocation) {
  if (invocation.Count("--threads", 1) > kThreadsMax) {
    return InvalidArgument(absl::StrCat("--threads is more than ", kThreadsMax));
  }
  if (!invocation.Has("--stdio")) return absl::OkStatus();
  for (const char* other : {"--listen", "--detach", "--default"}) {
    if (invocation.Has(other))
      return InvalidArgument(absl::StrCat("--stdio and ", other, " do not go together"));
  }
  return absl::OkStatus();
}

absl::Status RunServe(const Invocation& invocation, Output& output) {
  ServeOptions options = OptionsOf(invocation);
  if (invocation.Has("--detach")) return StartInBackground(options, output);
  if (options.stdio_name.empty()) {
    options.ready = [&output](const std::vector<std::string>& uris) {
      return PrintUris(uris, output);
    };
  }
  return Serve(options);
}

namespace {

// What is attached stays, and its users get errors only later: they should know.
void NoteWhatWaits(const std::string& store, const Output& output) {
  const absl::StatusOr<AttachedMap> attached = ListAttached(store);
  if (!attached.ok()) return;
  for (const auto& [name, attachment] : *attached) {
    output.Note(absl::StrCat(name, " is still attached ", WhereAttached(attachment),
                             ": reads and writes there wait for a server, ",
                             AttachRequest().dead_server_timeout_s,
                             " seconds at most; cowl serve, or cowl detach ", name));
  }
}

}  // namespace

absl::Status RunStop(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(auto client, ControlClient::Connect(invocation.store, ProgramVersion()));
  if (!client) {
    return NotFound(
        absl::StrCat("no server has store ", invocation.store, " open: nothing to stop"));
  }
  COWL_RETURN_IF_ERROR(client->Call("stop", Json::object(), {}, {}).status());
  if (!client->WaitGone(kStopTimeoutMs)) {
    return absl::DeadlineExceededError(
        absl::StrCat("the server (pid ", client->server_pid(), ") of store ", invocation.store,
                     " has not ended yet: wait, or look at what keeps it"));
  }
  PrintResult(output, Json::object(), "");
  NoteWhatWaits(invocation.store, output);
  return absl::OkStatus();
}

}  // namespace cowl
