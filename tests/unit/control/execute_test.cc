// A command that a server gives up because it ends is run by the client itself.
#include "control/execute.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/status.h"
#include "control/commands.h"
#include "control/control_server.h"
#include "control/session.h"
#include "control/version.h"
#include "device/export_table.h"
#include "io/loop_thread.h"

namespace cowl {
namespace {

// Answers from a process of its own; `check` goes no further than its first sign of life until the
// server ends. Ends on SIGTERM, with status 0.
[[noreturn]] void ServeUntilTerminated(const std::string& directory) {
  auto store = Store::Open(directory, {});
  if (!store.ok()) ::_exit(2);
  ControlServerOptions options;
  options.directory = directory;
  options.version = ProgramVersion();
  options.progress_interval_ms = 0;
  auto server = ControlServer::Start(
      options, [&](const std::string& verb, const Json& args, Session& session) {
        const Progress tell = session.progress;
        session.progress = [&](uint64_t done, uint64_t total) {
          while (tell(done, total)) ::usleep(1000);
          return false;
        };
        return RunCommand(**store, nullptr, verb, args, session);
      });
  if (!server.ok()) ::_exit(3);
  sigset_t terminate;
  sigemptyset(&terminate);
  sigaddset(&terminate, SIGTERM);
  int number = 0;
  sigwait(&terminate, &number);
  (*server)->Stop();
  server->reset();
  store->reset();
  ::_exit(0);
}

class ExecuteTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cowl-execute-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = std::string(name) + "/store";
    ASSERT_TRUE(Store::Init(directory_).ok());
    auto store = Store::Open(directory_, {});
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->CreateEmpty("web", {.size_bytes = 1 << 20}).ok());
    {
      const auto disk = (*store)->exports().Open("web", "test");
      ASSERT_TRUE(disk.ok()) << disk.status();
      const std::vector<std::byte> block(4096, std::byte{1});
      ASSERT_TRUE(RunOn((*disk)->loop(), (*disk)->device().Write(0, block, {})).ok());
    }
    ASSERT_TRUE((*store)->Commit("web", "image", false).ok());
  }
  void TearDown() override {
    if (server_ > 0) ::kill(server_, SIGKILL);
    std::filesystem::remove_all(std::filesystem::path(directory_).parent_path());
  }

  void StartServer() {
    sigset_t terminate;
    sigset_t before;
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &terminate, &before);
    server_ = ::fork();
    if (server_ == 0) ServeUntilTerminated(directory_);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    const std::string socket = directory_ + "/control.sock";
    for (int i = 0; i < 3000 && ::access(socket.c_str(), F_OK) != 0; ++i) ::usleep(10'000);
    ASSERT_EQ(::access(socket.c_str(), F_OK), 0);
  }
  int EndServer() {
    int status = -1;
    ::kill(server_, SIGTERM);
    EXPECT_EQ(::waitpid(server_, &status, 0), server_);
    server_ = -1;
    return status;
  }

  std::string directory_;
  pid_t server_ = -1;
};

TEST_F(ExecuteTest, WhatAnEndingServerGaveUpIsRunHere) {
  StartServer();
  bool was_told_to_end = false;
  const auto result =
      Execute({directory_, {}}, "check", {{"data", true}}, {}, [&](uint64_t, uint64_t) {
        if (!was_told_to_end) ::kill(server_, SIGTERM);
        was_told_to_end = true;
        return true;
      });
  EXPECT_TRUE(was_told_to_end) << "the server never began";
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->at("errors"), Json::array());
  EXPECT_EQ(EndServer(), 0);
}

TEST_F(ExecuteTest, WhatTheUserStoppedIsNotRunAgain) {
  StartServer();
  bool is_interrupted = false;
  const auto result = Execute({directory_, [&] { return is_interrupted; }}, "check",
                              {{"data", true}}, {}, [&](uint64_t, uint64_t) {
                                is_interrupted = true;
                                return false;
                              });
  EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
  EXPECT_EQ(EndServer(), 0);
}

}  // namespace
}  // namespace cowl
