#include "image/child_process.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

constexpr id_t kNobody = 65534;
constexpr size_t kSaidBytesMax = 400;

absl::StatusOr<std::string> FindProgram(const std::string& name, const std::string& package) {
  const char* const path = getenv("PATH");
  const std::string folders = absl::StrCat(path == nullptr ? "" : path, ":/usr/bin:/usr/local/bin");
  for (const auto& folder : absl::StrSplit(folders, ':', absl::SkipEmpty())) {
    const std::string program = absl::StrCat(folder, "/", name);
    if (access(program.c_str(), X_OK) == 0) return program;
  }
  return FailedPrecondition(absl::StrCat(name, " is not installed; install the package ", package));
}

// Everything the child needs, made before the fork: after it, only what is safe in a signal handler
// may be called.
struct Preparation {
  std::string program;
  std::vector<char*> arguments;
  std::vector<char*> environment;
  char listen_pid[32] = "LISTEN_PID=";
  int listen_fd;
  int extra_fd;
  int output_fd;
  int null_fd;
  int report_fd;
  pid_t parent;
  bool untrusted;
};

// No formatted output in the child.
void PutNumber(char* to, pid_t number) {
  char digits[16];
  int count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count > 0) *to++ = digits[--count];
  *to = 0;
}

void Limit(int resource, rlim_t value) {
  struct rlimit limit;
  if (getrlimit(static_cast<__rlimit_resource_t>(resource), &limit) == 0) {
    limit.rlim_cur = limit.rlim_max = std::min(value, limit.rlim_max);
    setrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
  }
}

// Gives the descriptors their numbers. They come from above 10, so that none is in another's place.
bool PlaceDescriptors(const Preparation& p) {
  if (dup2(p.null_fd, 0) < 0 || dup2(p.null_fd, 1) < 0 || dup2(p.output_fd, 2) < 0) return false;
  if (p.listen_fd >= 0 && dup2(p.listen_fd, kChildListenFd) < 0) return false;
  if (p.extra_fd >= 0 && dup2(p.extra_fd, kChildExtraFd) < 0) return false;
  if (p.listen_fd < 0) close(kChildListenFd);
  if (p.extra_fd < 0) close(kChildExtraFd);
  // The report closes itself when the program starts; all else goes now.
  return dup2(p.report_fd, 5) >= 0 && fcntl(5, F_SETFD, FD_CLOEXEC) == 0 &&
         close_range(6, ~0u, 0) == 0;
}

bool DropPrivileges() {
  unshare(CLONE_NEWNET);  // may be forbidden; what matters more follows
  return setgroups(0, nullptr) == 0 && setresgid(kNobody, kNobody, kNobody) == 0 &&
         setresuid(kNobody, kNobody, kNobody) == 0;
}

[[noreturn]] void Fail() {
  const int error_number = errno;
  const ssize_t ignored = write(5, &error_number, sizeof(error_number));
  (void)ignored;
  _exit(127);
}

[[noreturn]] void RunChild(Preparation& p) {
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  setpgid(0, 0);  // a Ctrl-C is for us: we end the child when we are done with it
  if (!PlaceDescriptors(p) || chdir("/") != 0) Fail();
  Limit(RLIMIT_CORE, 0);
  Limit(RLIMIT_NOFILE, 256);
  if (p.untrusted) {
    Limit(RLIMIT_AS, 8 * kGiB);
    Limit(RLIMIT_FSIZE, kMiB);
    if (geteuid() == 0 && !DropPrivileges()) Fail();
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Fail();
  // After the change of user, which forgets it.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) Fail();
  if (getppid() != p.parent) _exit(127);
  PutNumber(p.listen_pid + std::strlen(p.listen_pid), getpid());
  execve(p.program.c_str(), p.arguments.data(), p.environment.data());
  Fail();
}

// A copy with a high number.
absl::StatusOr<UniqueFd> High(int fd) {
  if (fd < 0) return UniqueFd();
  UniqueFd high(fcntl(fd, F_DUPFD_CLOEXEC, 20));
  if (!high.valid()) return ErrnoStatus(errno, "pass on", "a descriptor");
  return high;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(const ChildOptions& options) {
  const std::string& name = options.arguments[0];
  Preparation p;
  COWL_ASSIGN_OR_RETURN(p.program, FindProgram(name, options.package));
  for (const std::string& argument : options.arguments)
    p.arguments.push_back(const_cast<char*>(argument.c_str()));
  p.arguments.push_back(nullptr);
  static char fixed[][16] = {"LISTEN_FDS=1", "LC_ALL=C", "PATH=/usr/bin"};
  for (char* variable : fixed) p.environment.push_back(variable);
  if (options.listen_fd < 0) p.environment.erase(p.environment.begin());
  if (options.listen_fd >= 0) p.environment.push_back(p.listen_pid);
  p.environment.push_back(nullptr);
  p.parent = getpid();
  p.untrusted = options.untrusted;

  COWL_ASSIGN_OR_RETURN(const UniqueFd listen, High(options.listen_fd));
  COWL_ASSIGN_OR_RETURN(const UniqueFd extra, High(options.extra_fd));
  const UniqueFd memory(memfd_create("cowl-child-output", MFD_CLOEXEC));
  COWL_ASSIGN_OR_RETURN(UniqueFd output, High(memory.get()));
  const UniqueFd plain_null(open("/dev/null", O_RDWR | O_CLOEXEC));
  COWL_ASSIGN_OR_RETURN(const UniqueFd null, High(plain_null.get()));
  int ends[2];
  if (!output.valid() || !null.valid() || pipe2(ends, O_CLOEXEC) != 0)
    return ErrnoStatus(errno, "start", name);
  UniqueFd report(ends[0]);
  UniqueFd plain_reporter(ends[1]);
  COWL_ASSIGN_OR_RETURN(UniqueFd reporter, High(plain_reporter.get()));
  plain_reporter.Reset();
  p.listen_fd = listen.get();
  p.extra_fd = extra.get();
  p.output_fd = output.get();
  p.null_fd = null.get();
  p.report_fd = reporter.get();

  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, "start", name);
  if (pid == 0) RunChild(p);
  std::unique_ptr<ChildProcess> child(new ChildProcess(name, pid, std::move(output)));
  reporter.Reset();
  int error_number = 0;
  ssize_t got;
  do {
    got = read(report.get(), &error_number, sizeof(error_number));
  } while (got < 0 && errno == EINTR);
  if (got > 0) return ErrnoStatus(error_number, "start", p.program);
  return child;
}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

absl::StatusOr<int> ChildProcess::WaitForStatus() {
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) return ErrnoStatus(errno, "wait for", name_);
  }
  pid_ = -1;
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return Internal(absl::StrCat(name_, " was killed by signal ", WTERMSIG(status), ": ", Said()));
}

absl::Status ChildProcess::Wait() {
  COWL_ASSIGN_OR_RETURN(const int status, WaitForStatus());
  if (status == 0) return absl::OkStatus();
  return Internal(absl::StrCat(name_, " ended with status ", status, ": ", Said()));
}

std::string ChildProcess::Said() const {
  char buffer[4096];
  const ssize_t got = pread(output_.get(), buffer, sizeof(buffer), 0);
  std::string said(buffer, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  while (!said.empty() && said.back() == '\n') said.pop_back();
  for (char& c : said) {
    if (c == '\n') c = ';';
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  }
  if (said.size() > kSaidBytesMax) said = said.substr(0, kSaidBytesMax) + " ...";
  return said;
}

absl::StatusOr<PrivateSocket> MakePrivateSocket() {
  const char* const base = getenv("TMPDIR");
  std::string folder = absl::StrCat(base == nullptr || *base == 0 ? "/tmp" : base, "/cowl-XXXXXX");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (folder.size() + 3 > sizeof(address.sun_path)) folder = "/tmp/cowl-XXXXXX";
  if (mkdtemp(folder.data()) == nullptr) return ErrnoStatus(errno, "make a folder", folder);
  std::strcpy(address.sun_path, (folder + "/s").c_str());
  const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
  PrivateSocket made;
  made.listening.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  made.connected.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const bool connected = bind(made.listening.get(), generic, sizeof(address)) == 0 &&
                         listen(made.listening.get(), 1) == 0 &&
                         connect(made.connected.get(), generic, sizeof(address)) == 0;
  const int error_number = errno;
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  if (!connected) return ErrnoStatus(error_number, "connect to", address.sun_path);
  return made;
}

}  // namespace cowl
