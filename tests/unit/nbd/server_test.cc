// The life of connections, on both loops: limits, time-outs, clients that vanish, draining, and
// being sent away.
#include "nbd/server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <netinet/in.h>

#include <atomic>
#include <future>

#include "server_rig.h"

namespace cowl::nbd {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

class ServerLifeTest : public ServerTest {};
INSTANTIATE_TEST_SUITE_P(Loops, ServerLifeTest,
                         testing::Values(IoBackend::kUring, IoBackend::kSync), BackendName);

// --- Listening ---

TEST_P(ServerLifeTest, ServesUnixAndTcpAtOnceAndKnowsItsClients) {
  const auto uri = server().Listen("tcp:127.0.0.1:0");
  ASSERT_OK(uri);
  const int port = std::stoi(uri->substr(uri->rfind(':') + 1));
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  TestClient tcp(std::move(fd));
  tcp.Go("disk");
  TestClient unix_client = ConnectTo("disk");
  EXPECT_EQ(tcp.Write(0, "over tcp"), kOk);
  EXPECT_EQ(unix_client.Read(0, 8), "over tcp");
  EXPECT_THAT(exports_->users_of("disk"),
              Contains("unix client pid " + std::to_string(::getpid())));
  EXPECT_THAT(exports_->users_of("disk"), Contains(StartsWith("tcp 127.0.0.1:")));
  tcp.SayGoodbye();
  unix_client.SayGoodbye();
  EXPECT_TRUE(Eventually([&] { return exports_->users_of("disk").empty(); }));
}

TEST_P(ServerLifeTest, TheSameSocketTwiceIsRefused) {
  EXPECT_THAT(server().Listen("unix:" + socket_path()), SaysThat("another server listens there"));
  EXPECT_EQ(ConnectTo("disk").Read(0, 1).size(), 1u);
}

TEST_P(ServerLifeTest, ClientsThatDoNotStartTransmissionLeaveNoTrace) {
  for (int i = 0; i < 20; ++i) {
    TestClient client = Connect();
    if (i % 4 > 0) client.Greet();
    if (i % 4 > 1) client.Option(kOptInfo, EncodeInfoQuery({"disk", {}}));
    if (i % 4 > 2) {
      EXPECT_EQ(client.Option(kOptAbort), kRepAck);
    }
  }
  EXPECT_TRUE(Eventually(
      [&] { return server().connection_count() == 0 && exports_->users_of("disk").empty(); }));
}

TEST_P(ServerLifeTest, AHandshakeMayComeInOnePiece) {
  TestClient client = Connect();
  std::string bytes;
  WireWriter(bytes).U32(kClientFixedNewstyle | kClientNoZeroes);
  AppendOption(kOptExportName, "disk", bytes);
  bytes += AsText(EncodeRequest({0, kCmdWrite, 5, 0, 4}));
  bytes += "data";
  client.Say(bytes);
  EXPECT_EQ(client.Hear(18 + 10).size(), 28u);
  const std::string reply = client.Hear(16);
  const auto decoded = DecodeSimpleReply(AsBytes(reply));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->cookie, 5u);
  EXPECT_EQ(decoded->error, kOk);
}

TEST_P(ServerLifeTest, AListOfManyExportsArrivesWhole) {
  for (int i = 0; i < 2000; ++i) {
    exports_->Add("many-" + std::to_string(i), std::string(100, 'd'),
                  std::make_unique<MemoryDevice>(512));
  }
  TestClient client = Connect();
  client.Greet();
  EXPECT_EQ(client.Option(kOptList), kRepAck);
  EXPECT_EQ(client.Option(kOptGo, EncodeInfoQuery({"many-1999", {}})), kRepAck);
}

TEST_P(ServerLifeTest, TheHandshakeAsksADiskOnItsOwnLoopAloneAndBehindAResize) {
  server();
  exports_->loop_of("gate").Post([gate = gate_] {
    std::this_thread::sleep_for(200ms);
    gate->memory().bytes().resize(2 * kDiskBytes);
  });
  TestClient going = ConnectTo("gate");
  EXPECT_EQ(going.size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(going.Read(2 * kDiskBytes - 1, 1).size(), 1u);
  TestClient naming = Connect();
  naming.Greet();
  std::string option;
  AppendOption(kOptExportName, "gate", option);
  naming.Say(option);
  const std::string heard = naming.Hear(10);
  ASSERT_EQ(heard.size(), 10u);
  EXPECT_EQ(LoadBig<uint64_t>(heard.data()), 2 * kDiskBytes);
  EXPECT_EQ(gate_->stray_count(), 0);
}

// --- Limits ---

TEST_P(ServerLifeTest, OneConnectionTooManyIsClosedAndRoomIsMadeAgain) {
  options_.connections_max = 3;
  std::vector<TestClient> clients;
  for (int i = 0; i < 3; ++i) clients.push_back(ConnectTo("disk"));
  TestClient refused = Connect();
  EXPECT_TRUE(refused.IsAtEnd());
  EXPECT_EQ(clients[0].Read(0, 1).size(), 1u);
  clients[0].SayGoodbye();
  ASSERT_TRUE(Eventually([&] { return server().connection_count() == 2; }));
  EXPECT_EQ(ConnectTo("disk").Read(0, 1).size(), 1u);
}

TEST_P(ServerLifeTest, AHandshakeThatTakesTooLongIsEnded) {
  options_.handshake_timeout = 200ms;
  TestClient established = ConnectTo("disk");
  TestClient silent = Connect();
  TestClient dribbling = Connect();
  dribbling.Greet();
  std::string option;
  AppendOption(kOptGo, EncodeInfoQuery({"disk", {}}), option);
  std::thread dribbler([&] {
    for (const char c : option) {
      if (!dribbling.Say({&c, 1})) break;
      std::this_thread::sleep_for(50ms);
    }
  });
  EXPECT_EQ(silent.Hear(19).size(), 18u);  // the greeting, then the end
  EXPECT_TRUE(dribbling.IsAtEnd());
  dribbler.join();
  EXPECT_EQ(established.Read(0, 1).size(), 1u);
  EXPECT_EQ(server().connection_count(), 1u);
}

TEST_P(ServerLifeTest, AFloodOfOptionsHoldsUpNobodyAndEndsWithItsTime) {
  options_.handshake_timeout = 500ms;
  std::string lists;
  for (int i = 0; i < 1000; ++i) AppendOption(kOptList, "", lists);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    TestClient flooding = Connect();
    flooding.Greet();
    threads.emplace_back([&lists, client = std::move(flooding)]() mutable {
      while (client.Say(lists)) {
      }
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ConnectTo("disk").Read(0, 1).size(), 1u);
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(Eventually([&] { return server().connection_count() == 0; }));
}

// --- Clients that vanish ---

TEST_P(ServerLifeTest, AClientThatVanishesWithRequestsUnderWayIsForgottenWhenTheyEnd) {
  CloseGate();
  {
    TestClient client = ConnectTo("gate");
    for (int i = 0; i < 10; ++i) client.AskWrite(4096 * i, std::string(4096, 'v'));
    ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 10; }));
  }
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(server().connection_count(), 1u);  // the device still uses its buffers
  OpenGate();
  EXPECT_TRUE(Eventually([&] { return server().connection_count() == 0; }));
  EXPECT_EQ(ConnectTo("gate").Read(9 * 4096, 4096), std::string(4096, 'v'));
}

TEST_P(ServerLifeTest, AClientMayVanishAnywhere) {
  const std::string write =
      std::string(AsText(EncodeRequest({0, kCmdWrite, 1, 0, 100'000}))) + std::string(100'000, 'x');
  for (const size_t said_bytes :
       {size_t{0}, size_t{1}, size_t{27}, size_t{28}, size_t{29}, size_t{9000}, size_t{100'027}}) {
    TestClient client = ConnectTo("other");
    client.Say(std::string_view(write).substr(0, said_bytes));
  }
  EXPECT_TRUE(Eventually([&] { return server().connection_count() == 0; }));
  EXPECT_EQ(ConnectTo("other").Read(0, 1), std::string(1, '\0'));  // no part of a write was written
}

TEST_P(ServerLifeTest, AClientThatVanishesInAStreamOfReadsDoesNoHarm) {
  for (int i = 0; i < 10; ++i) {
    TestClient client = ConnectTo("disk", true);
    for (int j = 0; j < 100; ++j) client.Ask(kCmdRead, 0, kMiB, kCmdFlagDf);
    client.Hear(1 + 100'000 * static_cast<size_t>(i));
  }
  EXPECT_TRUE(Eventually([&] { return server().connection_count() == 0; }));
}

TEST_P(ServerLifeTest, AGoodbyeWaitsForWhatIsUnderWay) {
  CloseGate();
  TestClient client = ConnectTo("gate");
  const uint64_t cookie = client.AskWrite(0, "last");
  client.Ask(kCmdDisc, 0, 0);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 1; }));
  OpenGate();
  EXPECT_EQ(client.Next().cookie, cookie);
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_P(ServerLifeTest, AClientThatOnlyListensOnGetsAllItsAnswers) {
  CloseGate();
  TestClient client = ConnectTo("gate");
  for (int i = 0; i < 50; ++i) client.Ask(kCmdRead, 0, 4096);
  client.CloseWriteSide();
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 50; }));
  OpenGate();
  for (int i = 0; i < 50; ++i) EXPECT_NE(client.Next().cookie, 0u);
  EXPECT_TRUE(client.IsAtEnd());
}

// --- Being sent away ---

TEST_P(ServerLifeTest, DisconnectingADiskClosesItsClientsAndNoOthers) {
  TestClient gone = ConnectTo("disk");
  TestClient also_gone = ConnectTo("disk");
  TestClient stays = ConnectTo("other");
  exports_->Disconnect("disk");
  EXPECT_TRUE(gone.IsAtEnd());
  EXPECT_TRUE(also_gone.IsAtEnd());
  EXPECT_TRUE(Eventually([&] { return exports_->users_of("disk").empty(); }));
  EXPECT_EQ(stays.Read(0, 1).size(), 1u);
}

TEST_P(ServerLifeTest, DisconnectingClosesBeforeABusyDeviceIsDone) {
  CloseGate();
  TestClient client = ConnectTo("gate");
  client.Ask(kCmdRead, 0, 512);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 1; }));
  exports_->Disconnect("gate");
  EXPECT_TRUE(client.IsAtEnd());
  OpenGate();
  EXPECT_TRUE(Eventually([&] { return exports_->users_of("gate").empty(); }));
}

TEST_P(ServerLifeTest, DisconnectingEndsAClientThatTakesNoAnswers) {
  TestClient client = ConnectTo("disk");
  for (int i = 0; i < 64; ++i) client.Ask(kCmdRead, 0, kMiB, kCmdFlagDf);
  TestClient other = ConnectTo("disk");
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(other.Read(0, 4096).size(), 4096u);  // is served all the while
  exports_->Disconnect("disk");
  EXPECT_TRUE(Eventually([&] { return server().connection_count() == 0; }));
}

// --- Draining ---

TEST_P(ServerLifeTest, DrainAnswersWhatWasStartedThenCloses) {
  CloseGate();
  TestClient client = ConnectTo("gate");
  const uint64_t cookie = client.AskWrite(0, "drained");
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 1; }));
  auto drained = std::async(std::launch::async, [this] { return server().Drain(10s); });
  EXPECT_EQ(drained.wait_for(100ms), std::future_status::timeout);
  EXPECT_NE(::access(socket_path().c_str(), F_OK), 0);  // no new client
  OpenGate();
  EXPECT_EQ(client.Next().cookie, cookie);
  EXPECT_TRUE(client.IsAtEnd());
  EXPECT_OK(drained.get());
  EXPECT_EQ(server().connection_count(), 0u);
}

TEST_P(ServerLifeTest, DrainEndsIdleClientsAndHandshakesAtOnce) {
  TestClient idle = ConnectTo("disk");
  TestClient shaking_hands = Connect();
  shaking_hands.Greet();
  const auto before = std::chrono::steady_clock::now();
  EXPECT_OK(server().Drain(10s));
  EXPECT_LT(std::chrono::steady_clock::now() - before, 5s);
  EXPECT_TRUE(idle.IsAtEnd());
  EXPECT_TRUE(shaking_hands.IsAtEnd());
  EXPECT_THAT(server().Listen("unix:" + (directory_ / "late")),
              IsCode(absl::StatusCode::kUnavailable));
}

TEST_P(ServerLifeTest, DrainCutsWhatDoesNotEndInTime) {
  CloseGate();
  TestClient client = ConnectTo("gate");
  client.Ask(kCmdRead, 0, 512);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 1; }));
  auto drained = std::async(std::launch::async, [this] { return server().Drain(100ms); });
  EXPECT_TRUE(client.IsAtEnd());
  OpenGate();
  EXPECT_THAT(drained.get(), IsCode(absl::StatusCode::kDeadlineExceeded));
}

TEST_P(ServerLifeTest, DrainCutsAClientThatTakesNoAnswers) {
  TestClient client = ConnectTo("disk");
  for (int i = 0; i < 64; ++i) client.Ask(kCmdRead, 0, kMiB, kCmdFlagDf);
  EXPECT_EQ(client.Hear(1).size(), 1u);
  EXPECT_THAT(server().Drain(200ms), IsCode(absl::StatusCode::kDeadlineExceeded));
  EXPECT_EQ(server().connection_count(), 0u);
}

// Under a stream of writes: each that was answered is on the disk, and no answer is cut in the
// middle.
TEST_P(ServerLifeTest, DrainLosesNoAnsweredWrite) {
  for (int round = 0; round < 10; ++round) {
    StartServer();
    TestClient client = ConnectTo("disk");
    std::thread sender([&] {
      for (uint64_t i = 0; i < 100'000; ++i) {
        std::string request(AsText(EncodeRequest({0, kCmdWrite, i + 1, i % 1000 * 8, 8})));
        WireWriter(request).U64(i + 1);
        if (!client.Say(request)) break;
      }
    });
    std::vector<uint64_t> answered;
    std::atomic<bool> is_under_way = false;
    std::thread receiver([&] {
      for (;;) {
        const std::string reply = client.Hear(16);
        if (reply.empty()) break;
        const auto decoded = DecodeSimpleReply(AsBytes(reply));
        ASSERT_TRUE(decoded) << reply.size();
        ASSERT_EQ(decoded->error, kOk);
        answered.push_back(decoded->cookie);
        is_under_way = true;
      }
    });
    EXPECT_TRUE(Eventually([&] { return is_under_way.load(); }));
    std::this_thread::sleep_for(std::chrono::milliseconds(3 * round));
    EXPECT_OK(server().Drain(10s));
    sender.join();
    receiver.join();
    server_.reset();
    ASSERT_FALSE(answered.empty());
    // Writes to one place ran in order here, so the last one answered, or a later one, is there.
    TestClient reader = ConnectTo("disk");
    for (size_t i = answered.size() < 1000 ? 0 : answered.size() - 1000; i < answered.size(); ++i) {
      const std::string stored = reader.Read((answered[i] - 1) % 1000 * 8, 8);
      EXPECT_GE(LoadBig<uint64_t>(stored.data()), answered[i]);
    }
    server_.reset();
  }
}

TEST_P(ServerLifeTest, AServerMayGoWhileClientsAreConnected) {
  std::vector<TestClient> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(ConnectTo(i % 2 ? "disk" : "other"));
  for (TestClient& client : clients) client.Ask(kCmdRead, 0, kMiB);
  server_.reset();
  EXPECT_NE(::access(socket_path().c_str(), F_OK), 0);
  EXPECT_EQ(ConnectTo("disk").Read(0, 1).size(), 1u);  // another takes its place
}

// --- Streams instead of sockets ---

TEST_P(ServerLifeTest, ServesOneClientOnAPairOfPipesAndEndsWithIt) {
  int to_server[2], from_server[2];
  ASSERT_EQ(::pipe(to_server), 0);
  ASSERT_EQ(::pipe(from_server), 0);
  auto served = std::async(std::launch::async, [&, in = to_server[0], out = from_server[1]] {
    return server().ServeStream(UniqueFd(in), UniqueFd(out));
  });
  TestClient client{UniqueFd(from_server[0]), UniqueFd(to_server[1])};
  client.Go("disk");
  EXPECT_EQ(client.Write(0, "by pipe"), kOk);
  EXPECT_EQ(client.Read(0, 7), "by pipe");
  EXPECT_THAT(exports_->users_of("disk"), Contains("stdio client"));
  client.Ask(kCmdDisc, 0, 0);
  EXPECT_OK(served.get());
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_P(ServerLifeTest, ServesAPairOfPipesUntilTheyClose) {
  int to_server[2], from_server[2];
  ASSERT_EQ(::pipe(to_server), 0);
  ASSERT_EQ(::pipe(from_server), 0);
  auto served = std::async(std::launch::async, [&, in = to_server[0], out = from_server[1]] {
    return server().ServeStream(UniqueFd(in), UniqueFd(out));
  });
  {
    TestClient client{UniqueFd(from_server[0]), UniqueFd(to_server[1])};
    client.Go("disk");
  }
  EXPECT_OK(served.get());
}

TEST_P(ServerLifeTest, DrainEndsAPairOfPipes) {
  int to_server[2], from_server[2];
  ASSERT_EQ(::pipe(to_server), 0);
  ASSERT_EQ(::pipe(from_server), 0);
  server();
  auto served = std::async(std::launch::async, [&, in = to_server[0], out = from_server[1]] {
    return server().ServeStream(UniqueFd(in), UniqueFd(out));
  });
  TestClient client{UniqueFd(from_server[0]), UniqueFd(to_server[1])};
  client.Go("disk");
  EXPECT_OK(server().Drain(10s));
  EXPECT_OK(served.get());
  EXPECT_TRUE(client.IsAtEnd());
}

}  // namespace
}  // namespace cowl::nbd
