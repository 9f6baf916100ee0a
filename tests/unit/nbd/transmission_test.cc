// The transmission phase over a real socket, on both loops: commands, pipelining, limits, and
// clients that misbehave.
#include <gmock/gmock.h>

#include <random>
#include <set>

#include "nbd/buffer_pool.h"
#include "nbd/meta_context.h"
#include "server_rig.h"

namespace cowl::nbd {
namespace {

using testing::HasSubstr;

class TransmissionTest : public ServerTest {};
INSTANTIATE_TEST_SUITE_P(Loops, TransmissionTest,
                         testing::Values(IoBackend::kUring, IoBackend::kSync), BackendName);

std::string Pattern(size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  std::string pattern(size, '\0');
  for (char& c : pattern) c = static_cast<char>(random() | 1);
  return pattern;
}

// --- Commands ---

TEST_P(TransmissionTest, ReadsBackWhatWasWrittenAtAnyOffset) {
  for (const bool structured : {false, true}) {
    TestClient client = ConnectTo("odd", structured);
    EXPECT_EQ(client.size_bytes(), 100'001u);
    const std::string data = Pattern(50'001, 1);
    EXPECT_EQ(client.Write(50'000, data), kOk);
    EXPECT_EQ(client.Read(50'000, 50'001), data);
    EXPECT_EQ(client.Read(100'000, 1), data.substr(50'000));
    EXPECT_EQ(client.Read(49'999, 3), std::string(1, '\0') + data.substr(0, 2));
    client.SayGoodbye();
    exports_->Disconnect("odd");
  }
}

TEST_P(TransmissionTest, AnswersReadsAndWritesOfNothing) {
  for (const bool structured : {false, true}) {
    TestClient client = ConnectTo("disk", structured);
    EXPECT_EQ(client.Read(0, 0), "");
    EXPECT_EQ(client.Write(7, ""), kOk);
    EXPECT_EQ(client.AskAndWait(kCmdTrim, 0, 0).error, kOk);
    EXPECT_EQ(client.AskAndWait(kCmdWriteZeroes, 0, 0).error, kOk);
    EXPECT_EQ(client.AskAndWait(kCmdCache, 0, 0).error, kOk);
  }
}

TEST_P(TransmissionTest, TrimAndZeroesReadAsZeros) {
  TestClient client = ConnectTo("disk");
  client.Write(0, Pattern(32768, 2));
  EXPECT_EQ(client.AskAndWait(kCmdWriteZeroes, 1, 9999).error, kOk);
  EXPECT_EQ(client.Read(1, 9999), std::string(9999, '\0'));
  EXPECT_NE(client.Read(0, 1), std::string(1, '\0'));
  EXPECT_EQ(client.AskAndWait(kCmdTrim, 16384, 8192, kCmdFlagFua).error, kOk);
  EXPECT_EQ(client.Read(16384, 8192), std::string(8192, '\0'));
  EXPECT_EQ(client.AskAndWait(kCmdCache, 0, kDiskBytes).error, kOk);
}

TEST_P(TransmissionTest, FuaReachesTheDevice) {
  TestClient client = ConnectTo("gate");
  client.Write(0, "x", kCmdFlagFua);
  client.AskAndWait(kCmdTrim, 0, 4096, kCmdFlagFua);
  client.AskAndWait(kCmdWriteZeroes, 0, 4096, kCmdFlagFua);
  EXPECT_EQ(gate_->fua_count(), 3u);
  client.Write(0, "x");
  EXPECT_EQ(gate_->fua_count(), 3u);
}

TEST_P(TransmissionTest, FastZeroThatIsNotFastIsNotSupportedAndChangesNothing) {
  TestClient client = ConnectTo("gate");
  client.Write(0, "data");
  EXPECT_EQ(client.AskAndWait(kCmdWriteZeroes, 0, 4, kCmdFlagFastZero).error, kErrNotSup);
  EXPECT_EQ(client.Read(0, 4), "data");
  EXPECT_EQ(client.AskAndWait(kCmdWriteZeroes, 0, 4).error, kOk);
}

TEST_P(TransmissionTest, StructuredReadsSendHolesForZeros) {
  TestClient client = ConnectTo("disk");
  const std::string data = Pattern(65536, 3);
  client.Write(1 * kMiB, data);
  const auto answer = client.AskAndWait(kCmdRead, kMiB - 100'000, 300'000);
  EXPECT_EQ(answer.data, std::string(100'000, '\0') + data + std::string(300'000 - 165'536, '\0'));
  ASSERT_EQ(answer.chunks.size(), 3u);
  EXPECT_EQ(answer.chunks[0].first, kChunkOffsetHole);
  EXPECT_EQ(answer.chunks[1].first, kChunkOffsetData);
  EXPECT_EQ(answer.chunks[2].first, kChunkOffsetHole);
  const auto all_zero = client.AskAndWait(kCmdRead, 4 * kMiB, 2 * kMiB);
  ASSERT_EQ(all_zero.chunks.size(), 1u);
  EXPECT_EQ(all_zero.data, std::string(2 * kMiB, '\0'));
}

TEST_P(TransmissionTest, LongStructuredReadsComeInParts) {
  TestClient client = ConnectTo("disk");
  const std::string data = Pattern(kMiB, 5);
  client.Write(0, data);
  const auto answer = client.AskAndWait(kCmdRead, 0, kMiB);
  EXPECT_EQ(answer.data, data);
  EXPECT_EQ(answer.chunks.size(), 4u);
  EXPECT_EQ(client.AskAndWait(kCmdRead, 0, 256 * kKiB).chunks.size(), 1u);
}

TEST_P(TransmissionTest, APartThatFailsEndsTheRead) {
  OnGateLoop([gate = gate_] { gate->FailWith(DataLoss("a bad block"), 512 * kKiB); });
  TestClient client = ConnectTo("gate");
  const auto answer = client.AskAndWait(kCmdRead, 0, kMiB);
  EXPECT_EQ(answer.error, kErrIo);
  EXPECT_EQ(answer.message, "a bad block");
  EXPECT_EQ(answer.chunks.size(), 3u);  // two parts, and why there is no third
  EXPECT_EQ(client.Read(0, 1), std::string(1, '\0'));
}

TEST_P(TransmissionTest, DontFragmentGetsOneChunkOfData) {
  TestClient client = ConnectTo("disk");
  client.Write(100'000, "x");
  const auto answer = client.AskAndWait(kCmdRead, 0, kMiB, kCmdFlagDf);
  ASSERT_EQ(answer.chunks.size(), 1u);
  EXPECT_EQ(answer.chunks[0].first, kChunkOffsetData);
  EXPECT_EQ(answer.data[100'000], 'x');
}

std::vector<StatusExtent> Extents(const std::string& payload, uint32_t context_id) {
  std::vector<StatusExtent> extents;
  EXPECT_EQ(LoadBig<uint32_t>(payload.data()), context_id);
  for (size_t at = 4; at + 8 <= payload.size(); at += 8) {
    extents.push_back(
        {LoadBig<uint32_t>(payload.data() + at), LoadBig<uint32_t>(payload.data() + at + 4)});
  }
  return extents;
}

TEST_P(TransmissionTest, BlockStatusAnswersEveryChosenContext) {
  TestClient client = ConnectTo("disk", true, {"base:allocation", "cowl:depth"});
  client.Write(8192, Pattern(4096, 4));
  const auto answer = client.AskAndWait(kCmdBlockStatus, 4096, 65536);
  ASSERT_EQ(answer.chunks.size(), 2u);
  using E = StatusExtent;
  EXPECT_EQ(Extents(answer.chunks[0].second, 1),
            (std::vector<E>{{4096, 3}, {4096, 0}, {57344, 3}}));
  EXPECT_EQ(Extents(answer.chunks[1].second, 2),
            (std::vector<E>{{4096, 0}, {4096, 1}, {57344, 0}}));
  const auto one = client.AskAndWait(kCmdBlockStatus, 4097, 65536, kCmdFlagReqOne);
  ASSERT_EQ(one.chunks.size(), 2u);
  EXPECT_EQ(Extents(one.chunks[0].second, 1), (std::vector<E>{{4095, 3}}));
  EXPECT_EQ(Extents(one.chunks[1].second, 2), (std::vector<E>{{4095, 0}}));
}

TEST_P(TransmissionTest, BlockStatusOfOneContextIsOneChunk) {
  TestClient client = ConnectTo("disk", true, {"cowl:depth"});
  const auto answer = client.AskAndWait(kCmdBlockStatus, 0, kDiskBytes);
  ASSERT_EQ(answer.chunks.size(), 1u);
  EXPECT_EQ(Extents(answer.chunks[0].second, 2), (std::vector<StatusExtent>{{kDiskBytes, 0}}));
}

// --- Errors ---

TEST_P(TransmissionTest, ARefusedWriteLeavesTheStreamInSync) {
  for (const bool structured : {false, true}) {
    TestClient client = ConnectTo("image", structured);
    for (const size_t size : {size_t{1}, size_t{100'000}, size_t{5 * kMiB}}) {
      EXPECT_EQ(client.Write(0, std::string(size, 'x')), kErrPerm) << size;
    }
    EXPECT_EQ(client.Read(0, 10), std::string(10, '\0'));
    TestClient writer = ConnectTo("disk", structured);
    EXPECT_EQ(writer.Write(kDiskBytes - 10, std::string(100'000, 'x')), kErrNoSpc);
    EXPECT_EQ(writer.Write(0, std::string(100'000, 'x'), kCmdFlagDf), kErrInval);
    EXPECT_EQ(writer.Read(kDiskBytes - 10, 10), std::string(10, '\0'));
  }
}

TEST_P(TransmissionTest, StructuredErrorsSayWhy) {
  TestClient client = ConnectTo("image");
  client.AskWrite(0, "x");
  const auto answer = client.Next();
  EXPECT_EQ(answer.error, kErrPerm);
  EXPECT_THAT(answer.message, HasSubstr("read-only"));
}

TEST_P(TransmissionTest, AFailingDeviceFailsTheRequestAndNotTheConnection) {
  OnGateLoop(
      [gate = gate_] { gate->FailWith(DataLoss("block 7 of layer 12 failed its checksum")); });
  TestClient client = ConnectTo("gate", true, {"base:allocation"});
  for (const uint32_t length_bytes : {512u, 100'000u}) {
    const auto answer = client.AskAndWait(kCmdRead, 0, length_bytes);
    EXPECT_EQ(answer.error, kErrIo);
    EXPECT_EQ(answer.message, "block 7 of layer 12 failed its checksum");
    EXPECT_EQ(answer.chunks.size(), 1u);
  }
  EXPECT_EQ(client.AskAndWait(kCmdBlockStatus, 0, 4096).error, kErrIo);
  EXPECT_EQ(client.AskAndWait(kCmdFlush, 0, 0).error, kErrIo);
  OnGateLoop([gate = gate_] { gate->FailWith(absl::OkStatus()); });
  EXPECT_EQ(client.Read(0, 1), std::string(1, '\0'));
}

TEST_P(TransmissionTest, AFullDeviceIsNoSpace) {
  OnGateLoop([gate = gate_] { gate->FailWith(OutOfSpace("the cap of 1 MiB is reached")); });
  TestClient client = ConnectTo("gate", false);
  EXPECT_EQ(client.Write(0, "x"), kErrNoSpc);
}

TEST_P(TransmissionTest, UnknownCommandsAndFlagsAreRefused) {
  TestClient client = ConnectTo("disk");
  EXPECT_EQ(client.AskAndWait(8, 0, 0).error, kErrInval);
  EXPECT_EQ(client.AskAndWait(0xffff, 0, 0).error, kErrInval);
  EXPECT_EQ(client.AskAndWait(kCmdRead, 0, 1, 0x8000).error, kErrInval);
  EXPECT_EQ(client.AskAndWait(kCmdBlockStatus, 0, 4096).error, kErrInval);
  EXPECT_EQ(client.Read(0, 1), std::string(1, '\0'));
}

TEST_P(TransmissionTest, AReadTooLargeIsRefused) {
  TestClient structured = ConnectTo("disk", true);
  EXPECT_EQ(structured.AskAndWait(kCmdRead, 0, 32 * kMiB + 1).error, kErrOverflow);
  TestClient simple = ConnectTo("disk", false);
  EXPECT_EQ(simple.AskAndWait(kCmdRead, 0, ~0u).error, kErrInval);
}

TEST_P(TransmissionTest, ABadMagicEndsTheConnectionAndNoOther) {
  TestClient bad = ConnectTo("disk");
  TestClient good = ConnectTo("disk");
  bad.Say(std::string(28, 'x'));
  EXPECT_TRUE(bad.IsAtEnd());
  EXPECT_EQ(good.Read(0, 1), std::string(1, '\0'));
}

TEST_P(TransmissionTest, APayloadTooLargeEndsTheConnection) {
  TestClient client = ConnectTo("disk");
  client.Ask(kCmdWrite, 0, 32 * kMiB + 1);
  EXPECT_TRUE(client.IsAtEnd());
}

TEST_P(TransmissionTest, WhatWasAskedBeforeABadRequestIsStillAnswered) {
  CloseGate();
  TestClient client = ConnectTo("gate");
  const uint64_t cookie = client.AskWrite(4096, "data");
  client.Say(std::string(28, 'x'));
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 1; }));
  OpenGate();
  EXPECT_EQ(client.Next().cookie, cookie);
  EXPECT_TRUE(client.IsAtEnd());
}

// --- Many at a time ---

TEST_P(TransmissionTest, AnswersAThousandRequestsSentWithoutWaiting) {
  TestClient client = ConnectTo("disk");
  std::set<uint64_t> asked;
  std::string bytes;
  for (uint64_t cookie = 1; cookie <= 1000; ++cookie) {
    const bool is_flush = cookie % 10 == 0;
    asked.insert(cookie);
    bytes += AsText(
        EncodeRequest({0, is_flush ? kCmdFlush : kCmdTrim, cookie, 0, is_flush ? 0u : 512u}));
  }
  std::thread sender([&] { client.Say(bytes); });
  std::set<uint64_t> answered;
  for (int i = 0; i < 1000; ++i) answered.insert(client.Next().cookie);
  sender.join();
  EXPECT_EQ(answered, asked);
}

TEST_P(TransmissionTest, PipelinedWritesOfAllSizesLandWhereTheyBelong) {
  std::mt19937_64 random(7);
  std::string model(kDiskBytes, '\0');
  for (const bool structured : {false, true}) {
    TestClient client = ConnectTo("disk", structured);
    std::string bytes;
    int count = 0;
    std::thread receiver;
    for (; count < 400; ++count) {
      constexpr size_t kSizes[] = {1,    511,    512,    4096,    8164,   8192,
                                   8193, 32'740, 32'768, 100'000, 300'000};
      const std::string data =
          Pattern(kSizes[random() % std::size(kSizes)], static_cast<unsigned>(random()));
      const uint64_t offset_bytes = random() % (kDiskBytes - data.size());
      model.replace(offset_bytes, data.size(), data);
      bytes += AsText(EncodeRequest({0, kCmdWrite, static_cast<uint64_t>(count + 1), offset_bytes,
                                     static_cast<uint32_t>(data.size())}));
      bytes += data;
    }
    std::thread sender([&] {
      // In pieces that fit no boundary of the server's.
      for (size_t at = 0; at < bytes.size();) {
        const size_t piece = std::min<size_t>(bytes.size() - at, 1 + at % 50'021);
        if (!client.Say(std::string_view(bytes).substr(at, piece))) break;
        at += piece;
      }
    });
    for (int i = 0; i < count; ++i) EXPECT_EQ(client.Next().error, kOk);
    sender.join();
    for (uint64_t at = 0; at < kDiskBytes; at += kMiB) {
      EXPECT_TRUE(client.Read(at, kMiB) == model.substr(at, kMiB)) << at;
    }
  }
}

TEST_P(TransmissionTest, ASlowRequestHoldsUpNoOther) {
  CloseGate();
  OnGateLoop([gate = gate_] { gate->LetPassBelow(4096); });
  TestClient client = ConnectTo("gate");
  const uint64_t slow = client.Ask(kCmdRead, 4096, 512);
  const uint64_t quick = client.Ask(kCmdRead, 0, 512);
  EXPECT_EQ(client.Next().cookie, quick);
  OpenGate();
  EXPECT_EQ(client.Next().cookie, slow);
}

TEST_P(TransmissionTest, NoMoreRequestsRunThanAllowed) {
  options_.session.inflight_max = 4;
  CloseGate();
  TestClient client = ConnectTo("gate");
  for (int i = 0; i < 20; ++i) client.Ask(kCmdRead, 0, 512);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 4; }));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(gate_->waiting_count(), 4);
  OpenGate();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.Next().error, kOk);
}

TEST_P(TransmissionTest, NoMoreBytesAreHeldThanAllowedButForOneRequest) {
  options_.session.inflight_bytes_max = 1 * kMiB;
  CloseGate();
  TestClient client = ConnectTo("gate");
  std::thread sender([&] {
    for (int i = 0; i < 5; ++i)
      client.AskWrite(4096, std::string(400 * kKiB, static_cast<char>('a' + i)));
    client.AskWrite(0, std::string(4 * kMiB, 'z'));
  });
  EXPECT_TRUE(Eventually([&] { return gate_->waiting_count() == 2; }));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(gate_->waiting_count(), 2);
  OpenGate();
  for (int i = 0; i < 6; ++i) EXPECT_EQ(client.Next().error, kOk);
  sender.join();
  EXPECT_EQ(client.Read(4 * kMiB - 1, 1), "z");
}

TEST_P(TransmissionTest, ClientsOfOneThreadShareABudgetAndEachHasOneRequest) {
  options_.session.thread_bytes_max = 1 * kMiB;
  CloseGate();
  std::vector<TestClient> clients;
  for (int i = 0; i < 4; ++i) clients.push_back(ConnectTo("gate"));
  for (TestClient& client : clients) {
    for (int i = 0; i < 4; ++i) client.Ask(kCmdRead, 4096, 600 * kKiB, kCmdFlagDf);
  }
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 4; }));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(gate_->waiting_count(), 4);  // one each; the budget is long passed
  OpenGate();
  for (int i = 0; i < 4; ++i) {
    for (TestClient& client : clients) EXPECT_EQ(client.Next().error, kOk);
  }
}

TEST_P(TransmissionTest, LargeRequestsAreBoundedAlsoWhereEachIsItsClientsOnlyOne) {
  options_.session.thread_bytes_max = 4 * kMiB;
  options_.session.inflight_bytes_max = 1 * kMiB;
  CloseGate();
  std::vector<TestClient> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(ConnectTo("gate"));
  for (TestClient& client : clients) client.Ask(kCmdRead, 0, 3 * kMiB, kCmdFlagDf);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 2; }));
  TestClient small = ConnectTo("gate");
  small.Ask(kCmdRead, 0, 2 * kMiB, kCmdFlagDf);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 3; }));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(gate_->waiting_count(), 3);
  OpenGate();
  for (TestClient& client : clients) EXPECT_EQ(client.Next().error, kOk);
  EXPECT_EQ(small.Next().error, kOk);
}

TEST_P(TransmissionTest, AWriteThatIsStillOnItsWayCountsAndNoLongerWhenItsClientVanishes) {
  options_.session.thread_bytes_max = 1 * kMiB;
  CloseGate();
  const std::string data(900 * kKiB, 'd');
  TestClient slow = ConnectTo("gate");
  slow.Ask(kCmdWrite, 4096, static_cast<uint32_t>(data.size()), 0, data.substr(1));
  // The socket holds less than that: when all of it is said the server has begun to receive it.
  TestClient client = ConnectTo("gate");
  for (int i = 0; i < 4; ++i) client.Ask(kCmdRead, 4096, 100 * kKiB, kCmdFlagDf);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() >= 1; }));
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(gate_->waiting_count(), 1);
  slow.Close();
  EXPECT_TRUE(Eventually([&] { return gate_->waiting_count() == 4; }));
  OpenGate();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(client.Next().error, kOk);
}

TEST_P(TransmissionTest, AClientThatWaitsForTheSharedBudgetCanBeSentAway) {
  options_.session.thread_bytes_max = 1 * kMiB;
  CloseGate();
  TestClient client = ConnectTo("gate");
  for (int i = 0; i < 4; ++i) client.Ask(kCmdRead, 4096, 600 * kKiB, kCmdFlagDf);
  ASSERT_TRUE(Eventually([&] { return gate_->waiting_count() == 1; }));
  exports_->Disconnect("gate");
  EXPECT_TRUE(client.IsAtEnd());
  OpenGate();
  EXPECT_TRUE(Eventually([&] { return server().connection_count() == 0; }));
}

TEST_P(TransmissionTest, AnIdleConnectionHoldsLittleMemory) {
  std::vector<TestClient> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(ConnectTo("disk"));
  for (TestClient& client : clients) {
    for (int i = 0; i < 100; ++i) client.AskWrite(0, std::string(64 * kKiB, 'x'));
    for (int i = 0; i < 100; ++i) client.Next();
    client.Read(0, kMiB);
    client.Read(0, 1);  // now it waits with nothing under way
  }
  struct Look {
    static Task<uint64_t> At() {
      const BufferPool& pool = BufferPool::ForThisThread();
      co_return pool.used_bytes();
    }
  };
  IoLoop& loop = exports_->loop_of("disk");
  EXPECT_TRUE(Eventually([&] { return RunOn(loop, Look::At()) <= clients.size() * 8 * kKiB; }))
      << RunOn(loop, Look::At());
}

// --- Several connections ---

TEST_P(TransmissionTest, WhatOneConnectionWroteTheOtherReads) {
  TestClient a = ConnectTo("disk");
  TestClient b = ConnectTo("disk");
  EXPECT_NE(a.flags() & kFlagCanMultiConn, 0);
  for (int i = 0; i < 200; ++i) {
    const std::string data = "round " + std::to_string(i);
    (i % 2 ? a : b).Write(12345, data);
    EXPECT_EQ((i % 2 ? b : a).Read(12345, static_cast<uint32_t>(data.size())), data);
  }
}

TEST_P(TransmissionTest, AFlushOnOneConnectionReachesTheDeviceOfAll) {
  TestClient a = ConnectTo("gate");
  TestClient b = ConnectTo("gate");
  a.Write(0, "x");
  EXPECT_EQ(b.AskAndWait(kCmdFlush, 0, 0).error, kOk);
  EXPECT_EQ(gate_->flush_count(), 1);
}

TEST_P(TransmissionTest, ManyConnectionsToManyDisksDoNotMixUp) {
  server();
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([this, t] {
      TestClient client = ConnectTo(t % 2 ? "disk" : "other", t % 3 == 0);
      const std::string mine(5000, static_cast<char>('a' + t));
      for (int i = 0; i < 300; ++i) {
        const uint64_t offset_bytes =
            static_cast<uint64_t>(t) * kMiB + static_cast<uint64_t>(i) * 3000;
        client.Write(offset_bytes, mine);
        ASSERT_TRUE(client.Read(offset_bytes, 5000) == mine) << offset_bytes;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cowl::nbd
