#include "tools/cowl/held_server.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "control/execute.h"
#include "control/server_process.h"
#include "control/version.h"
#include "io/socket.h"
#include "store/store_lock.h"
#include "tools/cowl/call.h"
#include "tools/cowl/read_all.h"

extern char** environ;

namespace cowl {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);
constexpr int kGoneTimeoutMs = 20'000;

// Runs this program with `words` to its end; its stderr is `errors`.
absl::StatusOr<int> RunSelf(std::vector<std::string> words, std::string* errors) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make", "a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, to.get(), STDERR_FILENO);
  pid_t child;
  const int error_number =
      ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error_number != 0) return ErrnoStatus(error_number, "start", "a server in the background");
  to.Reset();
  *errors = ReadAll(from.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Unavailable when another process has the store, a server perhaps.
absl::Status StartServer(const std::string& store, const std::set<std::string>& sockets) {
  std::vector<std::string> words = {"cowl", "serve",    "--store",
                                    store,  "--detach", "--until-detached"};
  for (const std::string& socket : sockets)
    words.insert(words.end(), {"--listen", "unix:" + socket});
  if (!MakeIoLoop(IoBackend::kUring).ok()) words.insert(words.end(), {"--io", "sync"});
  std::string errors;
  COWL_ASSIGN_OR_RETURN(const int exit_status, RunSelf(std::move(words), &errors));
  if (exit_status == 0) return absl::OkStatus();
  constexpr std::string_view kPrefix = "cowl: serve: ";
  while (!errors.empty() && errors.back() == '\n') errors.pop_back();
  if (errors.starts_with(kPrefix)) errors.erase(0, kPrefix.size());
  const std::string message = absl::StrCat("no server could be started: ", errors);
  const bool is_transient = absl::StrContains(errors, kStoreIsOpenElsewhere) ||
                            absl::StrContains(errors, kStoreIsServedAlready);
  return is_transient ? Unavailable(message) : FailedPrecondition(message);
}

}  // namespace

absl::StatusOr<std::optional<HeldServer>> HeldServer::HoldRunning(const std::string& store) {
  COWL_ASSIGN_OR_RETURN(auto client, ControlClient::Connect(store, ProgramVersion()));
  if (!client) return std::optional<HeldServer>();
  COWL_RETURN_IF_ERROR(client->SendRequest("hold", Json::object(), {}));
  COWL_RETURN_IF_ERROR(client->AwaitProgress());
  return std::optional<HeldServer>(HeldServer(*std::move(client)));
}

absl::StatusOr<HeldServer> HeldServer::Hold(const std::string& store,
                                            const std::set<std::string>& sockets) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  absl::Status last;
  while (true) {
    auto held = HoldRunning(store);
    if (held.ok() && *held) return **std::move(held);
    // A server that is ending is soon gone; then it is our turn to start one. Somebody else may be
    // quicker.
    const bool is_ending = absl::IsUnavailable(held.status()) || absl::IsAborted(held.status());
    if (!held.ok() && !is_ending) return held.status();
    last = held.ok() ? StartServer(store, sockets) : held.status();
    if (!last.ok() && std::chrono::steady_clock::now() > deadline) return last;
    if (!last.ok() && held.ok()) {
      // Did it fail because of a server that somebody else has started, or for a reason that stays?
      held = HoldRunning(store);
      if (held.ok() && *held) return **std::move(held);
      // That server may have the store and not be reachable yet, or no longer.
      if (held.ok() && !absl::IsUnavailable(last)) return last;
    }
    if (!last.ok()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

absl::Status HeldServer::End() {
  client_.FinishSending();
  const auto answer = client_.AwaitResult({});
  // A server that was stopped meanwhile is what we wait for, not an error.
  const bool is_ending = !answer.ok() || FlagOr(*answer, "ending", false);
  if (is_ending && !client_.WaitGone(kGoneTimeoutMs)) {
    return absl::DeadlineExceededError(absl::StrCat("the server in the background (pid ",
                                                    client_.server_pid(),
                                                    ") has not ended yet: look at what keeps it"));
  }
  return absl::OkStatus();
}

namespace {

std::string PercentDecoded(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size()) {
      decoded +=
          static_cast<char>(std::strtol(std::string(text.substr(i + 1, 2)).c_str(), nullptr, 16));
      i += 2;
    } else {
      decoded += text[i];
    }
  }
  return decoded;
}

}  // namespace

absl::StatusOr<ServedAt> WhereServed(const std::string& store, const std::string& name) {
  COWL_ASSIGN_OR_RETURN(auto client, ControlClient::Connect(store, ProgramVersion()));
  if (!client) return Unavailable("the server ended");
  COWL_ASSIGN_OR_RETURN(const Json answer,
                        client->Call("where", Json::object({{"name", name}}), {}, {}));
  ServedAt at;
  constexpr std::string_view kUnix = "nbd+unix:///?socket=";
  for (const Json& uri : ListOf(answer, "uris")) {
    if (uri.is_string()) at.uris.push_back(*uri.get_ptr<const Json::string_t*>());
  }
  for (const Json& listener : ListOf(answer, "listeners")) {
    const std::string uri = listener.is_string() ? *listener.get_ptr<const Json::string_t*>() : "";
    if (at.unix_path.empty() && uri.starts_with(kUnix))
      at.unix_path = PercentDecoded(uri.substr(kUnix.size()));
  }
  return at;
}

}  // namespace cowl
