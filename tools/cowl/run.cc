// run: a server, and where asked an attachment, for the time of one command.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "cowl/names.h"
#include "tools/cowl/attach_verbs.h"
#include "tools/cowl/call.h"
#include "tools/cowl/held_server.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr int kNotRunnable = 126;
constexpr int kNoSuchCommand = 127;

volatile sig_atomic_t g_child = 0;

void PassOn(int number) {
  if (g_child > 0) ::kill(g_child, number);
}

// Ctrl-C reaches COMMAND by the terminal, like us; what is sent to us alone is passed on.
void LeaveSignalsToChild() {
  struct sigaction ignore {
  }, pass{};
  ignore.sa_handler = SIG_IGN;
  pass.sa_handler = PassOn;
  for (const int number : {SIGINT, SIGQUIT}) ::sigaction(number, &ignore, nullptr);
  for (const int number : {SIGTERM, SIGHUP}) ::sigaction(number, &pass, nullptr);
}

[[noreturn]] void BecomeCommand(const std::vector<std::string>& command, int error_pipe) {
  for (const int number : {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(number, SIG_DFL);
  std::vector<char*> argv;
  for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  const int error_number = errno;
  [[maybe_unused]] const ssize_t written = ::write(error_pipe, &error_number, sizeof(error_number));
  ::_exit(kNotRunnable);
}

// Exit status as a shell gives it.
absl::StatusOr<int> RunCommandLine(const std::vector<std::string>& command) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "make", "a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return ErrnoStatus(errno, "start", command[0]);
  if (child == 0) BecomeCommand(command, to.get());
  g_child = child;
  to.Reset();
  LeaveSignalsToChild();
  int error_number = 0;
  ssize_t got;
  while ((got = ::read(from.get(), &error_number, sizeof(error_number))) < 0 && errno == EINTR) {
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  g_child = 0;
  if (got == sizeof(error_number)) {
    PrintError("run", absl::StrCat(Quoted(command[0]), ": ", std::strerror(error_number)));
    return error_number == ENOENT ? kNoSuchCommand : kNotRunnable;
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

absl::Status SetEnvironment(const char* key, const std::string& value) {
  if (::setenv(key, value.c_str(), 1) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "set in the environment", key);
}

// COMMAND has ended; what it left behind in the mount is cut off.
absl::Status DetachAfter(const std::string& store, const std::string& name) {
  const absl::Status gently = Detach(store, name, /*force=*/false);
  return gently.ok() || absl::IsNotFound(gently) ? absl::OkStatus()
                                                 : Detach(store, name, /*force=*/true);
}

absl::Status RunAttached(const Invocation& invocation, const Subject& subject, Output& output) {
  COWL_ASSIGN_OR_RETURN(
      const Attachment attached,
      AttachSubject(invocation, subject, invocation.Text("--mount"), /*read_only=*/false));
  COWL_RETURN_IF_ERROR(SetEnvironment("device", attached.device));
  COWL_RETURN_IF_ERROR(SetEnvironment("mount", attached.mount));
  const auto exit_status = RunCommandLine(invocation.command);
  COWL_RETURN_IF_ERROR(DetachAfter(invocation.store, subject.name));
  COWL_RETURN_IF_ERROR(exit_status.status());
  output.exit_status = *exit_status;
  return absl::OkStatus();
}

absl::Status RunServed(const Invocation& invocation, const Subject& subject, Output& output) {
  COWL_ASSIGN_OR_RETURN(const ServedAt at, WhereServed(invocation.store, subject.name));
  if (at.uris.empty()) {
    return FailedPrecondition(absl::StrCat("the server of store ", invocation.store,
                                           " has no listener that others can use"));
  }
  COWL_RETURN_IF_ERROR(SetEnvironment("uri", at.uris[0]));
  if (invocation.Has("--mount")) return RunAttached(invocation, subject, output);
  COWL_ASSIGN_OR_RETURN(output.exit_status, RunCommandLine(invocation.command));
  return absl::OkStatus();
}

}  // namespace

absl::Status RunRun(const Invocation& invocation, Output& output) {
  if (invocation.Has("--mount") && ::geteuid() != 0) {
    return absl::PermissionDeniedError("--mount needs root: run it with sudo");
  }
  COWL_ASSIGN_OR_RETURN(const Subject subject, FindSubject(invocation, invocation.Text("NAME")));
  if (invocation.Has("--mount"))
    COWL_RETURN_IF_ERROR(RefuseAttached(invocation.store, subject.name));
  COWL_ASSIGN_OR_RETURN(HeldServer server, HeldServer::Hold(invocation.store));
  const absl::Status status = RunServed(invocation, subject, output);
  const absl::Status let_go = server.End();
  COWL_RETURN_IF_ERROR(status);
  return let_go;
}

}  // namespace cowl
