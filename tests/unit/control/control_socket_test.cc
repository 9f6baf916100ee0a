// The control socket: commands over it, and everything that should not come over it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/bytes.h"
#include "control/commands.h"
#include "control/control_client.h"
#include "control/control_server.h"
#include "control/socket_path.h"
#include "fake_store.h"

namespace cowl {
namespace {

class ControlSocketTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cowl-control-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    Start("1.0");
  }
  void TearDown() override {
    server_.reset();
    EXPECT_NE(::access((directory_ + "/control.sock").c_str(), F_OK), 0)
        << "the socket outlived its server";
    ::rmdir(directory_.c_str());
  }

  void Start(const std::string& version, int request_timeout_ms = 300) {
    ControlServerOptions options;
    options.directory = directory_;
    options.version = version;
    options.request_timeout_ms = request_timeout_ms;
    options.progress_interval_ms = 1;
    auto server = ControlServer::Start(
        options, [this](const std::string& verb, const Json& args, Session& session) {
          return Dispatch(verb, args, session);
        });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  absl::StatusOr<Json> Dispatch(const std::string& verb, const Json& args, Session& session) {
    if (verb == "read fd") {
      if (session.fds.size() != 1) return InvalidArgument("not one descriptor");
      char text[16] = {};
      const ssize_t got = ::read(session.fds[0].get(), text, sizeof(text));
      return Json::object({{"text", std::string(text, got > 0 ? static_cast<size_t>(got) : 0)}});
    }
    if (verb == "fail") return absl::DataLossError("layer x is torn");
    if (verb == "echo") return args;
    if (verb == "flatten") {
      auto result = RunCommand(store_, nullptr, verb, args, session);
      was_cancelled_ = absl::IsCancelled(result.status());
      return result;
    }
    return RunCommand(store_, nullptr, verb, args, session);
  }

  absl::StatusOr<std::optional<ControlClient>> Connect(const std::string& version = "1.0") {
    return ControlClient::Connect(directory_, version);
  }
  absl::StatusOr<Json> Call(const std::string& verb, const Json& args = Json::object(),
                            const Progress& progress = {}) {
    COWL_ASSIGN_OR_RETURN(auto client, Connect());
    if (!client) return NotFound("no server");
    return client->Call(verb, args, {}, progress);
  }

  // A connection that speaks no protocol of ours; past the greeting.
  UniqueFd RawConnection() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock",
                  directory_.c_str());
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    Channel channel(std::move(socket));
    EXPECT_TRUE(channel.Receive({}).ok());
    return channel.TakeSocket();
  }

  static std::string Frame(std::string_view text, uint32_t length) {
    std::string frame = "COWL0000";
    StoreLittle<uint32_t>(frame.data() + 4, length);
    return frame.append(text);
  }

  // What the server says to these bytes: the message of an error, or what happened instead.
  std::string AnswerTo(const std::string& bytes, bool finish = true) {
    UniqueFd socket = RawConnection();
    EXPECT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    if (finish) ::shutdown(socket.get(), SHUT_WR);
    Channel channel(std::move(socket));
    ReceiveOptions options;
    options.timeout_ms = 5000;
    auto reply = channel.Receive(options);
    if (reply.ok() && TextOr(*reply, "type", "") == "begun") reply = channel.Receive(options);
    if (!reply.ok()) return "closed: " + Message(reply.status());
    return TextOr(*reply, "type", "?") + ": " + TextOr(*reply, "message", "");
  }

  FakeStore store_;
  std::string directory_;
  std::atomic<bool> was_cancelled_ = false;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlSocketTest, ACommandsResultComesBack) {
  const auto result = Call("gc");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(JsonText(*result), R"({"freed_bytes":12})");
}

TEST_F(ControlSocketTest, AnErrorKeepsItsCodeAndMessage) {
  const auto result = Call("fail");
  EXPECT_EQ(result.status(), absl::DataLossError("layer x is torn"));
}

TEST_F(ControlSocketTest, TextThatIsNotUtf8DoesNoHarm) {
  const auto result = Call("echo", {{"name", "\xff\xfe"}});
  ASSERT_TRUE(result.ok()) << result.status();
}

TEST_F(ControlSocketTest, LargeResultsArriveWhole) {
  const std::string large(900'000, 'x');
  const auto result = Call("echo", {{"text", large}});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(TextOr(*result, "text", ""), large);
}

TEST_F(ControlSocketTest, OnlyTheOwnerMayOpenTheSocket) {
  struct stat found {};
  ASSERT_EQ(::stat((directory_ + "/control.sock").c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
}

TEST_F(ControlSocketTest, DescriptorsArePassedOn) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  ASSERT_EQ(::write(to.get(), "hello", 5), 5);
  to.Reset();
  auto client = Connect();
  ASSERT_TRUE(client.ok() && *client);
  const int fds[] = {from.get()};
  const auto result = (*client)->Call("read fd", Json::object(), fds, {});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(TextOr(*result, "text", ""), "hello");
}

TEST_F(ControlSocketTest, TooManyDescriptorsAreRefusedAndNotKept) {
  const int before = ::dup(0);
  ::close(before);
  {
    UniqueFd socket = RawConnection();
    int fds[64];
    for (int& fd : fds) fd = 0;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(fds))] = {};
    char byte = 'C';
    iovec buffer{&byte, 1};
    msghdr message{};
    message.msg_iov = &buffer;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(fds));
    std::memcpy(CMSG_DATA(header), fds, sizeof(fds));
    ASSERT_EQ(::sendmsg(socket.get(), &message, 0), 1);
    Channel channel(std::move(socket));
    ReceiveOptions options;
    options.timeout_ms = 5000;
    const auto reply = channel.Receive(options);
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(TextOr(*reply, "type", ""), "error");
  }
  server_.reset();
  const int after = ::dup(0);
  ::close(after);
  EXPECT_LE(after, before) << "the server kept descriptors";
}

TEST_F(ControlSocketTest, ProgressIsStreamed) {
  store_.flatten_steps = 100;
  uint64_t last = 0, total = 0, count = 0;
  const auto result =
      Call("flatten", {{"image", "a"}, {"new", "b"}}, [&](uint64_t done, uint64_t of) {
        EXPECT_GE(done, last);
        last = done;
        total = of;
        ++count;
        return true;
      });
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(count, 3u);
  EXPECT_EQ(total, 1'000'000u);
}

TEST_F(ControlSocketTest, AClientThatStopsCancelsItsCommand) {
  const auto result = Call("flatten", {{"image", "a"}, {"new", "b"}},
                           [](uint64_t done, uint64_t) { return done < 5; });
  EXPECT_TRUE(absl::IsCancelled(result.status())) << result.status();
  server_->Stop();
  EXPECT_TRUE(was_cancelled_);
}

TEST_F(ControlSocketTest, AClientThatVanishesCancelsItsCommand) {
  {
    auto client = Connect();
    ASSERT_TRUE(client.ok() && *client);
    ASSERT_TRUE((*client)->SendRequest("flatten", {{"image", "a"}, {"new", "b"}}, {}).ok());
    ASSERT_TRUE((*client)->AwaitProgress().ok());
  }
  for (int i = 0; i < 500 && !was_cancelled_; ++i) ::usleep(10'000);
  EXPECT_TRUE(was_cancelled_);
}

TEST_F(ControlSocketTest, ASlowCommandDoesNotHoldUpQuickOnes) {
  std::thread slow([this] {
    const auto result = Call("flatten", {{"image", "a"}, {"new", "b"}});
    EXPECT_FALSE(result.ok());
  });
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(Call("gc").ok());
  server_->Stop();  // cancels what still runs
  slow.join();
  EXPECT_TRUE(was_cancelled_);
}

TEST_F(ControlSocketTest, VersionsThatDifferAreAnErrorThatNamesBoth) {
  const auto client = Connect("1.1");
  ASSERT_FALSE(client.ok());
  EXPECT_NE(Message(client.status()).find("is cowl 1.0 and this command is cowl 1.1"),
            std::string::npos)
      << client.status();
}

TEST_F(ControlSocketTest, TheServerRefusesAnotherVersionToo) {
  const std::string text = R"({"type":"run","protocol":1,"version":"9.9","verb":"gc","args":{}})";
  const std::string answer = AnswerTo(Frame(text, static_cast<uint32_t>(text.size())));
  EXPECT_NE(answer.find("is cowl 1.0 and this command is cowl 9.9"), std::string::npos) << answer;
}

TEST_F(ControlSocketTest, WhatIsNoFrameIsRefusedAndTheServerGoesOn) {
  const std::string deep(100'000, '[');
  const std::string invalid[] = {
      "GET / HTTP/1.1\r\n\r\n",
      Frame("", 0),
      Frame("{", 1),
      Frame("[]", 2),
      Frame("\"COWL\"", 6),
      Frame("{}", 2),
      Frame(R"({"protocol":-1,"version":7})", 27),
      Frame("x", 0xffffffff),
      Frame(deep, static_cast<uint32_t>(deep.size())),
      Frame(R"({"protocol":1,"version":"1.0","verb":7,"args":{}})", 49),
      Frame(R"({"protocol":1,"version":"1.0","verb":"gc"})", 42),
      Frame(R"({"protocol":1,"version":"1.0","verb":"gc","args":[]})", 52),
      Frame(R"({"protocol":1,"version":"1.0","verb":"halt","args":{}})", 54),
  };
  for (const std::string& bytes : invalid) {
    const std::string answer = AnswerTo(bytes);
    EXPECT_TRUE(answer.starts_with("error: ")) << bytes.substr(0, 60) << " -> " << answer;
  }
  EXPECT_TRUE(Call("gc").ok());
}

TEST_F(ControlSocketTest, AnAnsweredRequestHasBegun) {
  auto client = Connect("1.0");
  ASSERT_TRUE(client.ok() && *client);
  EXPECT_FALSE((*client)->has_begun());
  ASSERT_TRUE((*client)->Call("gc", Json::object(), {}, nullptr).ok());
  EXPECT_TRUE((*client)->has_begun());
}

TEST_F(ControlSocketTest, AServerThatEndsBeforeItBeginsLeavesItToTheClient) {
  auto client = Connect("1.0");
  ASSERT_TRUE(client.ok() && *client);
  server_->Stop();
  const auto result = (*client)->Call("gc", Json::object(), {}, nullptr);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kUnavailable) << result.status();
  EXPECT_FALSE((*client)->has_begun());
}

TEST_F(ControlSocketTest, AFrameThatBreaksOffAndSilenceEndTheConnection) {
  AnswerTo(Frame("{}", 100));
  AnswerTo("COW");
  AnswerTo("");
  EXPECT_TRUE(AnswerTo("", /*finish=*/false).starts_with("error: "));
  EXPECT_TRUE(AnswerTo("COW", /*finish=*/false).starts_with("error: "));
  EXPECT_TRUE(Call("gc").ok());
}

TEST_F(ControlSocketTest, NobodyListeningIsNoError) {
  server_.reset();
  const auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.status();
  EXPECT_FALSE(client->has_value());
}

TEST_F(ControlSocketTest, AStaleSocketIsReplaced) {
  server_.reset();
  const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", directory_.c_str());
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_TRUE(Connect().ok());
  EXPECT_FALSE(Connect()->has_value()) << "nobody listens on a stale socket";
  Start("1.0");
  EXPECT_TRUE(Call("gc").ok());
}

TEST_F(ControlSocketTest, AStoreWithALongPathIsReached) {
  server_.reset();
  const std::string outer = directory_;
  std::string deep = directory_;
  std::vector<std::string> made;
  for (int i = 0; i < 4; ++i) {
    deep += "/" + std::string(60, 'd');
    ASSERT_EQ(::mkdir(deep.c_str(), 0700), 0);
    made.push_back(deep);
  }
  directory_ = deep;
  Start("1.0");
  EXPECT_TRUE(Call("gc").ok());
  server_.reset();
  for (auto folder = made.rbegin(); folder != made.rend(); ++folder) ::rmdir(folder->c_str());
  directory_ = outer;
}

TEST_F(ControlSocketTest, AClientThatSaysNothingDoesNotHoldUpTheEnd) {
  server_.reset();
  Start("1.0", /*request_timeout_ms=*/60'000);
  const UniqueFd silent = RawConnection();
  const auto begin = std::chrono::steady_clock::now();
  server_->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST_F(ControlSocketTest, AClientOfAServerThatEndsIsToldSo) {
  std::thread slow([this] {
    const auto result = Call("flatten", {{"image", "a"}, {"new", "b"}});
    EXPECT_FALSE(result.ok());
  });
  ::usleep(50'000);
  server_.reset();
  slow.join();
}

}  // namespace
}  // namespace cowl
