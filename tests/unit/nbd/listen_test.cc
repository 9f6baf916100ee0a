// Listening: what is parsed, what is bound, and what is refused and why.
#include "nbd/listen.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "base/status.h"
#include "support/status_matchers.h"
#include "support/temp_directory.h"

namespace cowl::nbd {
namespace {

using Kind = ListenSpec::Kind;

absl::StatusOr<BoundSocket> BindText(const std::string& text) {
  COWL_ASSIGN_OR_RETURN(const ListenSpec spec, ParseListenSpec(text));
  return Bind(spec);
}

bool CanConnect(const std::string& path) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  return ::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
}

TEST(ListenSpecTest, TellsUnixFromTcp) {
  const auto unix_spec = ParseListenSpec("unix:/run/a:b.sock");
  ASSERT_OK(unix_spec);
  EXPECT_EQ(unix_spec->kind, Kind::kUnix);
  EXPECT_EQ(unix_spec->path, "/run/a:b.sock");
  const auto tcp = ParseListenSpec("tcp:localhost:10809");
  ASSERT_OK(tcp);
  EXPECT_EQ(tcp->kind, Kind::kTcp);
  EXPECT_EQ(tcp->host, "localhost");
  EXPECT_EQ(tcp->port, 10809);
  const auto v6 = ParseListenSpec("tcp:[::1]:0");
  ASSERT_OK(v6);
  EXPECT_EQ(v6->host, "::1");
}

TEST(ListenSpecTest, RefusesWhatIsNeither) {
  for (const std::string text :
       {"", "unix:", "tcp:", "tcp:10809", "tcp::10809", "tcp:localhost:", "tcp:localhost:65536",
        "tcp:localhost:-1", "tcp:localhost:+1", "tcp:localhost: 1", "tcp:localhost:1x",
        "tcp:::1:10809", "tcp:[]:1", "tcp:localhost:99999999999999", "udp:localhost:1",
        "/run/x.sock", "UNIX:/x"}) {
    const auto spec = ParseListenSpec(text);
    EXPECT_THAT(spec, IsCode(absl::StatusCode::kInvalidArgument)) << text;
    EXPECT_THAT(spec, SaysThat("give unix:PATH or tcp:HOST:PORT")) << text;
  }
  EXPECT_THAT(ParseListenSpec(std::string("unix:/a\0b", 9)),
              IsCode(absl::StatusCode::kInvalidArgument));
}

TEST(BindTest, ASocketFileIsForItsOwnerAloneAndGoesWithTheListener) {
  const TempDirectory directory;
  const std::string path = directory / "s";
  const mode_t old_mask = ::umask(0);
  {
    const auto bound = BindText("unix:" + path);
    ASSERT_OK(bound);
    EXPECT_EQ(bound->uri, "nbd+unix:///?socket=" + path);
    struct stat file;
    ASSERT_EQ(::stat(path.c_str(), &file), 0);
    EXPECT_EQ(file.st_mode & 07777, 0600u);
    EXPECT_TRUE(CanConnect(path));
  }
  ::umask(old_mask);
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(BindTest, TheSocketOfADeadServerIsReplaced) {
  const TempDirectory directory;
  const std::string path = directory / "s";
  const pid_t child = ::fork();
  if (child == 0) {
    auto bound = BindText("unix:" + path);
    _exit(bound.ok() ? 0 : 1);  // dies with its socket file in place
  }
  int status;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_EQ(::access(path.c_str(), F_OK), 0);
  EXPECT_FALSE(CanConnect(path));
  const auto bound = BindText("unix:" + path);
  ASSERT_OK(bound);
  EXPECT_TRUE(CanConnect(path));
}

TEST(BindTest, TheSocketOfALiveServerIsRefused) {
  const TempDirectory directory;
  const std::string path = directory / "s";
  const auto first = BindText("unix:" + path);
  ASSERT_OK(first);
  const auto second = BindText("unix:" + path);
  EXPECT_THAT(second, IsCode(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(second, SaysThat("another server listens there"));
  EXPECT_TRUE(CanConnect(path));
}

// The listener of a killed server lives on for a moment: it takes a connection, greets nobody, and
// is gone.
TEST(BindTest, TheSocketOfADyingServerIsReplacedOnceItIsDead) {
  const TempDirectory directory;
  const std::string path = directory / "s";
  const pid_t child = ::fork();
  if (child == 0) {
    auto bound = BindText("unix:" + path);
    ::usleep(300'000);
    _exit(bound.ok() ? 0 : 1);
  }
  while (!CanConnect(path)) ::usleep(1000);
  const auto bound = BindText("unix:" + path);
  int status;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_OK(bound);
  EXPECT_TRUE(CanConnect(path));
}

TEST(BindTest, AFileThatIsNoSocketIsLeftAlone) {
  const TempDirectory directory;
  const std::string path = directory / "file";
  std::ofstream(path) << "precious";
  EXPECT_THAT(BindText("unix:" + path), SaysThat("no socket"));
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, "precious");
  EXPECT_THAT(BindText("unix:" + directory.path()), SaysThat("no socket"));
}

TEST(BindTest, AFolderThatIsNotThereIsNamed) {
  EXPECT_THAT(BindText("unix:/no/such/folder/s"), IsCode(absl::StatusCode::kNotFound));
}

TEST(BindTest, APathTooLongForASocketSaysHowLongItMayBe) {
  const TempDirectory directory;
  const auto bound = BindText("unix:" + directory.path() + "/" + std::string(120, 'x'));
  EXPECT_THAT(bound, IsCode(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(bound, SaysThat("107 bytes"));
}

TEST(BindTest, ARelativePathBecomesAnAbsoluteUri) {
  const TempDirectory directory;
  const std::string before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  const auto bound = BindText("unix:./s");
  std::filesystem::current_path(before);
  ASSERT_OK(bound);
  EXPECT_EQ(bound->uri, "nbd+unix:///?socket=" + (directory / "s"));
}

TEST(BindTest, AFilePutInPlaceOfTheSocketIsNotRemoved) {
  const TempDirectory directory;
  const std::string path = directory / "s";
  {
    const auto bound = BindText("unix:" + path);
    ASSERT_OK(bound);
    std::filesystem::rename(path, path + ".old");
    std::ofstream(path) << "another's";
  }
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
}

TEST(BindTest, TcpOnLoopbackChoosesAPortWhenAsked) {
  const auto bound = BindText("tcp:127.0.0.1:0");
  ASSERT_OK(bound);
  EXPECT_TRUE(bound->uri.starts_with("nbd://127.0.0.1:"));
  EXPECT_FALSE(bound->uri.ends_with(":0"));
}

TEST(BindTest, TcpPortThatIsTakenIsRefused) {
  const auto first = BindText("tcp:127.0.0.1:0");
  ASSERT_OK(first);
  const std::string port = first->uri.substr(first->uri.rfind(':') + 1);
  EXPECT_THAT(BindText("tcp:127.0.0.1:" + port), SaysThat("Address already in use"));
}

TEST(BindTest, TcpBeyondLoopbackIsRefusedForWantOfTls) {
  for (const std::string text : {"tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:192.0.2.1:10809"}) {
    const auto bound = BindText(text);
    EXPECT_THAT(bound, IsCode(absl::StatusCode::kInvalidArgument)) << text;
    EXPECT_THAT(bound, SaysThat("no TLS")) << text;
  }
}

TEST(BindTest, AHostThatDoesNotExistIsNamed) {
  EXPECT_THAT(BindText("tcp:host.invalid:1"), SaysThat("no such host"));
}

// --- systemd ---

// Runs `test` in a child whose descriptor 3 is a copy of `fd` and whose environment is systemd's.
// The child's status.
int WithActivation(int fd, const char* count, int (*test)()) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(fd, 3);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", count, 1);
    _exit(test());
  }
  int status;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(ActivationTest, WithoutSystemdThereAreNoSockets) {
  const auto sockets = TakeActivatedSockets();
  ASSERT_OK(sockets);
  EXPECT_TRUE(sockets->empty());
}

TEST(ActivationTest, TakesAPassedSocketOnce) {
  const TempDirectory directory;
  const auto bound = BindText("unix:" + (directory / "s"));
  ASSERT_OK(bound);
  EXPECT_EQ(WithActivation(bound->fd.get(), "1",
                           [] {
                             const auto sockets = TakeActivatedSockets();
                             if (!sockets.ok() || sockets->size() != 1) return 1;
                             if (!(*sockets)[0].uri.starts_with("nbd+unix:///?socket=/")) return 2;
                             if ((::fcntl(3, F_GETFD) & FD_CLOEXEC) == 0) return 3;
                             const auto again = TakeActivatedSockets();
                             return again.ok() && again->empty() ? 0 : 4;
                           }),
            0);
  EXPECT_EQ(::access((directory / "s").c_str(), F_OK), 0);  // systemd's file stays
}

TEST(ActivationTest, RefusesWhatIsNoListeningSocket) {
  const UniqueFd file(::open("/dev/null", O_RDWR));
  EXPECT_EQ(WithActivation(file.get(), "1", [] { return TakeActivatedSockets().ok() ? 1 : 0; }), 0);
}

TEST(ActivationTest, RefusesASocketBeyondLoopback) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::listen(fd.get(), 1), 0);  // on 0.0.0.0 and a port the kernel chooses
  EXPECT_EQ(WithActivation(fd.get(), "1", [] { return TakeActivatedSockets().ok() ? 1 : 0; }), 0);
}

TEST(ActivationTest, IgnoresNonsenseInTheEnvironment) {
  const UniqueFd file(::open("/dev/null", O_RDWR));
  for (const char* count : {"", "x", "-1", "0"}) {
    EXPECT_EQ(WithActivation(file.get(), count,
                             [] {
                               const auto sockets = TakeActivatedSockets();
                               return sockets.ok() && sockets->empty() ? 0 : 1;
                             }),
              0)
        << count;
  }
}

}  // namespace
}  // namespace cowl::nbd
