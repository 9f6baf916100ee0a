#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "attach/attach.h"
#include "attach/fuse_arguments.h"
#include "attach/fuse_serve.h"
#include "attach/text_file.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace cowl {
namespace {

constexpr int kStartMsMax = 20000;
constexpr int kArguments = 10;

// Runs between fork and exec: nothing here may allocate or lock.
[[noreturn]] void BecomeFuseProcess(int tell_fd, int null_fd, char* const* argv) {
  setsid();
  // A second fork, so that the process is nobody's child to wait for and can never get a terminal.
  if (fork() != 0) _exit(0);
  umask(077);
  if (chdir("/") != 0) _exit(127);
  for (int fd = 0; fd <= 2; ++fd) dup2(null_fd, fd);
  dup2(tell_fd, kTellParentFd);
  close_range(kTellParentFd + 1, ~0U, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv("/proc/self/exe", argv);
  _exit(127);
}

// Everything the process says until it closes the pipe; what came so far when it takes too long.
std::string ReadAnswer(int fd) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kStartMsMax);
  std::string answer;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    pollfd wait{fd, POLLIN, 0};
    if (left.count() <= 0) return answer;
    const int ready = poll(&wait, 1, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return answer;
    char chunk[512];
    const ssize_t n = read(fd, chunk, sizeof(chunk));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return answer;
    answer.append(chunk, static_cast<size_t>(n));
  }
}

// Field 22 of /proc/PID/stat, counted from behind the name, which may hold anything.
uint64_t StartTime(int64_t pid) {
  const std::string line = ReadLine("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  const std::vector<std::string_view> fields =
      SplitWords(std::string_view(line).substr(name_end + 1), ' ');
  uint64_t started = 0;
  return fields.size() > 19 && ParseNumber(fields[19], &started) ? started : 0;
}

}  // namespace

std::vector<std::string> EncodeFuseArguments(const FuseOptions& options) {
  return {kFuseServeVerb,
          options.file,
          options.socket_path,
          options.export_name,
          options.identity,
          options.source,
          options.read_only ? "ro" : "rw",
          std::to_string(options.connections),
          std::to_string(options.dead_server_timeout_s)};
}

absl::StatusOr<FuseOptions> DecodeFuseArguments(int argc, const char* const* argv) {
  if (argc != kArguments) return InvalidArgument("this verb is for cowl's own use");
  FuseOptions options;
  options.file = argv[2];
  options.socket_path = argv[3];
  options.export_name = argv[4];
  options.identity = argv[5];
  options.source = argv[6];
  options.read_only = std::string_view(argv[7]) == "ro";
  uint64_t connections = 0;
  uint64_t timeout_s = 0;
  if (!ParseNumber(argv[8], &connections) || connections < 1 || connections > 64 ||
      !ParseNumber(argv[9], &timeout_s) || timeout_s > UINT32_MAX ||
      options.source.find(',') != std::string::npos) {
    return InvalidArgument("this verb is for cowl's own use");
  }
  options.connections = static_cast<int>(connections);
  options.dead_server_timeout_s = static_cast<uint32_t>(timeout_s);
  return options;
}

void TellParent(std::string_view failure) {
  const std::string line =
      failure.empty() ? "+" + std::to_string(getpid()) : "-" + std::string(failure);
  (void)!write(kTellParentFd, line.data(), line.size());
  close(kTellParentFd);
}

absl::StatusOr<FuseProcess> StartFuse(const FuseOptions& options) {
  std::vector<std::string> words = EncodeFuseArguments(options);
  words.insert(words.begin(), "cowl");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoStatus(errno, "pipe", "for the FUSE process");
  const UniqueFd from_child(ends[0]);
  // Above everything the new process lays its own descriptors over.
  UniqueFd to_parent(fcntl(ends[1], F_DUPFD_CLOEXEC, kTellParentFd + 1));
  close(ends[1]);
  if (!to_parent.valid()) return ErrnoStatus(errno, "dup", "for the FUSE process");
  const UniqueFd null_fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null_fd.valid()) return ErrnoStatus(errno, "open", "/dev/null");
  const pid_t child = fork();
  if (child < 0) return ErrnoStatus(errno, "fork", "for the FUSE process");
  if (child == 0) BecomeFuseProcess(to_parent.get(), null_fd.get(), argv.data());
  to_parent.Reset();
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }

  const std::string answer = ReadAnswer(from_child.get());
  if (answer.empty())
    return Unavailable("the FUSE process did not start: is this program still where it was?");
  if (answer[0] == '-') return Unavailable(answer.substr(1));
  uint64_t pid = 0;
  if (!ParseNumber(std::string_view(answer).substr(1), &pid))
    return Internal("the FUSE process answered " + answer);
  return FuseProcess{static_cast<int64_t>(pid), StartTime(static_cast<int64_t>(pid))};
}

bool IsRunning(const FuseProcess& process) {
  return process.pid > 0 && process.started != 0 && StartTime(process.pid) == process.started;
}

bool WaitForEnd(const FuseProcess& process, int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (IsRunning(process)) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

void EndProcess(const FuseProcess& process) {
  const UniqueFd handle(static_cast<int>(syscall(SYS_pidfd_open, process.pid, 0)));
  // Looked at once the handle is held: it stays with this process even when the number passes on.
  if (handle.valid() && IsRunning(process))
    syscall(SYS_pidfd_send_signal, handle.get(), SIGKILL, nullptr, 0);
}

}  // namespace cowl
