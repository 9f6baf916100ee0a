// Streams and listeners on every loop: what socket.h promises.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <random>
#include <thread>

#include "base/bytes.h"
#include "io/socket.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using absl::StatusCode;
using testing::AllOf;

std::pair<UniqueFd, UniqueFd> SocketPair() {
  int fds[2];
  COWL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

std::pair<UniqueFd, UniqueFd> Pipe() {
  int fds[2];
  COWL_CHECK(::pipe2(fds, O_CLOEXEC) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

UniqueFd ListenOnLoopback(int flags, sockaddr_in* address) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
  *address = {};
  address->sin_family = AF_INET;
  address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(*address);
  COWL_CHECK(::bind(fd.get(), reinterpret_cast<sockaddr*>(address), size) == 0);
  COWL_CHECK(::listen(fd.get(), 1000) == 0);
  COWL_CHECK(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(address), &size) == 0);
  return fd;
}

UniqueFd ConnectTo(const sockaddr_in& address) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  COWL_CHECK(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
             0);
  return fd;
}

bool SendAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(sent);
  }
  return true;
}

std::string ReadUntilEnd(int fd) {
  std::string all;
  char buffer[65536];
  for (ssize_t got; (got = ::read(fd, buffer, sizeof(buffer))) > 0;) all.append(buffer, got);
  return all;
}

std::string Text(size_t bytes, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::string text(bytes + sizeof(uint64_t), 0);
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t))
    StoreLittle<uint64_t>(text.data() + at, random());
  text.resize(bytes);
  return text;
}

Task<absl::Status> SendText(Stream* stream, std::string_view text) {
  const iovec part{const_cast<char*>(text.data()), text.size()};
  co_return co_await stream->Send({&part, 1});
}

Task<absl::StatusOr<std::string>> ReceiveText(Stream* stream) {
  std::vector<std::byte> buffer(1 << 16);
  const absl::StatusOr<size_t> got = co_await stream->Receive(buffer);
  if (!got.ok()) co_return got.status();
  co_return std::string(AsText(std::span(buffer).first(*got)));
}

Task<absl::Status> Echo(Stream* stream) {
  std::vector<std::byte> buffer(1 << 16);
  for (;;) {
    const absl::StatusOr<size_t> got = co_await stream->Receive(buffer);
    if (!got.ok()) co_return got.status();
    if (*got == 0) co_return absl::OkStatus();
    const iovec part{buffer.data(), *got};
    const absl::Status sent = co_await stream->Send({&part, 1});
    if (!sent.ok()) co_return sent;
  }
}

Task<void> EchoUntilEnd(IoLoop* loop, UniqueFd fd, std::promise<absl::Status>* ended) {
  std::unique_ptr<Stream> stream = loop->WrapStream(std::move(fd));
  const absl::Status status = co_await Echo(stream.get());
  stream.reset();
  ended->set_value(status);
}

// Streams are wrapped, used and destroyed on their loop; these carry the test's calls over.
Task<absl::Status> Destroy(std::unique_ptr<Stream>* stream) {
  stream->reset();
  co_return absl::OkStatus();
}
Task<absl::Status> ShutDown(Stream* stream) {
  stream->Shutdown();
  co_return absl::OkStatus();
}
Task<std::unique_ptr<Stream>> Wrap(IoLoop* loop, UniqueFd fd) {
  co_return loop->WrapStream(std::move(fd));
}
Task<std::unique_ptr<Stream>> WrapPair(IoLoop* loop, UniqueFd in, UniqueFd out) {
  co_return loop->WrapStreamPair(std::move(in), std::move(out));
}

class StreamTest : public IoRigTest {
 protected:
  IoLoop& loop() { return rig().io_loop(); }

  // A stream that is destroyed on its loop at the end of the scope.
  struct OnLoop {
    IoRig& rig;
    std::unique_ptr<Stream> stream;
    ~OnLoop() {
      if (stream != nullptr) (void)rig.Run(Destroy(&stream));
    }
    Stream* get() { return stream.get(); }
    Stream* operator->() { return stream.get(); }
  };
  OnLoop Wrapped(UniqueFd fd) { return {rig(), Run(Wrap(&loop(), std::move(fd)))}; }
  OnLoop WrappedPair(UniqueFd in, UniqueFd out) {
    return {rig(), Run(WrapPair(&loop(), std::move(in), std::move(out)))};
  }
};

TEST_P(StreamTest, CarriesALargeMessageBothWays) {
  auto [ours, theirs] = SocketPair();
  std::promise<absl::Status> ended;
  loop().Spawn(EchoUntilEnd(&loop(), std::move(theirs), &ended));
  const std::string sent = Text(8 << 20, 1);
  std::thread sender([&, fd = ours.get()] {
    EXPECT_TRUE(SendAll(fd, sent));
    ::shutdown(fd, SHUT_WR);
  });
  std::string got(sent.size(), 0);
  for (size_t done = 0; done < got.size();) {
    const ssize_t count = ::recv(ours.get(), got.data() + done, got.size() - done, 0);
    ASSERT_GT(count, 0);
    done += count;
  }
  sender.join();
  EXPECT_TRUE(got == sent);
  EXPECT_OK(ended.get_future().get());
}

TEST_P(StreamTest, SendsThousandsOfBuffersInOrder) {
  auto [ours, theirs] = SocketPair();
  const std::string text = Text(3 << 20, 2);
  std::vector<iovec> parts;
  for (size_t at = 0; at < text.size();) {
    const size_t count = std::min<size_t>(at % 1700, text.size() - at);
    parts.push_back({const_cast<char*>(text.data()) + at, count});
    at += count;
    if (count == 0) parts.push_back({const_cast<char*>(text.data()) + at++, 1});
  }
  ASSERT_GT(parts.size(), 1500u);
  auto stream = Wrapped(std::move(theirs));
  std::string got;
  std::thread reader([&] { got = ReadUntilEnd(ours.get()); });
  EXPECT_OK(Run(stream->Send(parts)));
  EXPECT_OK(Run(Destroy(&stream.stream)));
  reader.join();
  EXPECT_TRUE(got == text);
}

TEST_P(StreamTest, HundredsOfStreamsRunAtOnce) {
  constexpr int kStreams = 300;
  std::vector<UniqueFd> ours;
  std::vector<std::promise<absl::Status>> ended(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    auto [mine, theirs] = SocketPair();
    ours.push_back(std::move(mine));
    loop().Spawn(EchoUntilEnd(&loop(), std::move(theirs), &ended[i]));
  }
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < kStreams; ++i)
      ASSERT_TRUE(SendAll(ours[i].get(), Text(1 + i * 13, i + round)));
    for (int i = 0; i < kStreams; ++i) {
      std::string got(1 + i * 13, 0);
      ASSERT_EQ(::recv(ours[i].get(), got.data(), got.size(), MSG_WAITALL),
                static_cast<ssize_t>(got.size()));
      ASSERT_TRUE(got == Text(1 + i * 13, i + round));
    }
  }
  for (UniqueFd& fd : ours) fd.Reset();
  for (auto& end : ended) EXPECT_OK(end.get_future().get());
}

TEST_P(StreamTest, ThePeersOrderlyEndIsZeroBytes) {
  auto [ours, theirs] = SocketPair();
  auto stream = Wrapped(std::move(theirs));
  ASSERT_TRUE(SendAll(ours.get(), "last words"));
  ours.Reset();
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "last words");
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "");
}

TEST_P(StreamTest, SendingToAPeerThatHasGoneIsAnErrorAndNoSignal) {
  auto [ours, theirs] = SocketPair();
  auto stream = Wrapped(std::move(theirs));
  ours.Reset();
  EXPECT_THAT(Run(SendText(stream.get(), "hello?")), IsCode(StatusCode::kUnavailable));
}

TEST_P(StreamTest, ShutdownEndsAPendingReceive) {
  auto [ours, theirs] = SocketPair();
  auto stream = Wrapped(std::move(theirs));
  std::thread ender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_OK(Run(ShutDown(stream.get())));
  });
  EXPECT_THAT(Run(ReceiveText(stream.get())), IsCode(StatusCode::kCancelled));
  ender.join();
  EXPECT_THAT(Run(ReceiveText(stream.get())), IsCode(StatusCode::kCancelled)) << "later ones too";
  EXPECT_EQ(ReadUntilEnd(ours.get()), "") << "the peer sees the end";
}

TEST_P(StreamTest, ShutdownEndsASendThatNobodyReads) {
  auto [ours, theirs] = SocketPair();
  auto stream = Wrapped(std::move(theirs));
  const std::string text = Text(16 << 20, 3);
  std::thread ender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_OK(Run(ShutDown(stream.get())));
  });
  EXPECT_THAT(Run(SendText(stream.get(), text)), IsCode(StatusCode::kCancelled));
  ender.join();
}

TEST_P(StreamTest, NonBlockingDescriptorsWorkAsWell) {
  auto [ours, theirs] = SocketPair();
  ::fcntl(theirs.get(), F_SETFL, ::fcntl(theirs.get(), F_GETFL) | O_NONBLOCK);
  std::promise<absl::Status> ended;
  loop().Spawn(EchoUntilEnd(&loop(), std::move(theirs), &ended));
  const std::string text = Text(1 << 20, 4);
  std::this_thread::sleep_for(std::chrono::milliseconds(10));  // the Receive waits by now
  std::thread sender([&, fd = ours.get()] {
    EXPECT_TRUE(SendAll(fd, text));
    ::shutdown(fd, SHUT_WR);
  });
  EXPECT_TRUE(ReadUntilEnd(ours.get()) == text);
  sender.join();
  EXPECT_OK(ended.get_future().get());
}

Task<UniqueFd> Detach(std::unique_ptr<Stream>* stream) {
  UniqueFd fd = (*stream)->Detach();
  stream->reset();
  co_return std::move(fd);
}

TEST_P(StreamTest, ADetachedStreamGoesOnOnAnotherLoop) {
  auto [ours, theirs] = SocketPair();
  auto stream = Wrapped(std::move(theirs));
  ASSERT_TRUE(SendAll(ours.get(), "one"));
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "one");
  UniqueFd fd = Run(Detach(&stream.stream));
  ASSERT_TRUE(fd.valid());

  IoRig other(GetParam());
  std::promise<absl::Status> ended;
  other.io_loop().Spawn(EchoUntilEnd(&other.io_loop(), std::move(fd), &ended));
  ASSERT_TRUE(SendAll(ours.get(), "two"));
  ::shutdown(ours.get(), SHUT_WR);
  EXPECT_EQ(ReadUntilEnd(ours.get()), "two");
  EXPECT_OK(ended.get_future().get());
}

TEST_P(StreamTest, APairOfPipesCarriesBothDirections) {
  auto [in_reader, in_writer] = Pipe();
  auto [out_reader, out_writer] = Pipe();
  auto stream = WrappedPair(std::move(in_reader), std::move(out_writer));
  ASSERT_EQ(::write(in_writer.get(), "question", 8), 8);
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "question");
  const std::string answer = Text(1 << 20, 5);  // far more than a pipe holds
  std::string got;
  std::thread reader([&] { got = ReadUntilEnd(out_reader.get()); });
  EXPECT_OK(Run(SendText(stream.get(), answer)));
  EXPECT_OK(Run(Destroy(&stream.stream)));
  reader.join();
  EXPECT_TRUE(got == answer);
}

TEST_P(StreamTest, APipeWithoutReaderIsAnErrorAndNoSignal) {
  auto [in_reader, in_writer] = Pipe();
  auto [out_reader, out_writer] = Pipe();
  auto stream = WrappedPair(std::move(in_reader), std::move(out_writer));
  out_reader.Reset();
  EXPECT_THAT(Run(SendText(stream.get(), "hello?")), IsCode(StatusCode::kUnavailable));
  in_writer.Reset();
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "");
}

TEST_P(StreamTest, ShutdownEndsAPendingReceiveOfAPair) {
  auto [in_reader, in_writer] = Pipe();
  auto [out_reader, out_writer] = Pipe();
  auto stream = WrappedPair(std::move(in_reader), std::move(out_writer));
  std::thread ender([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    EXPECT_OK(Run(ShutDown(stream.get())));
  });
  EXPECT_THAT(Run(ReceiveText(stream.get())), IsCode(StatusCode::kCancelled));
  ender.join();
}

TEST_P(StreamTest, APairLeavesItsDescriptorsFlagsAsTheyWere) {
  auto [in_reader, in_writer] = Pipe();
  auto [out_reader, out_writer] = Pipe();
  const UniqueFd shared(::dup(in_reader.get()));  // somebody else's hold of the same pipe
  WrappedPair(std::move(in_reader), std::move(out_writer));
  EXPECT_EQ(::fcntl(shared.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST_P(StreamTest, APairMayBeRegularFilesOrSockets) {
  const std::string path = rig().directory() + "/text";
  UniqueFd in(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::write(in.get(), "from a file", 11), 11);
  ASSERT_EQ(::lseek(in.get(), 0, SEEK_SET), 0);
  auto [ours, theirs] = SocketPair();
  auto stream = WrappedPair(std::move(in), std::move(theirs));
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "from a file");
  EXPECT_EQ(*Run(ReceiveText(stream.get())), "");
  EXPECT_OK(Run(SendText(stream.get(), "to a socket")));
  EXPECT_OK(Run(Destroy(&stream.stream)));
  EXPECT_EQ(ReadUntilEnd(ours.get()), "to a socket");
}

Task<void> AcceptAll(IoLoop* loop, Listener* listener, int* accepted,
                     std::vector<std::promise<absl::Status>>* ended,
                     std::promise<absl::Status>* closed) {
  for (;;) {
    absl::StatusOr<UniqueFd> fd = co_await listener->Accept();
    if (!fd.ok()) {
      closed->set_value(fd.status());
      co_return;
    }
    StartDetached(EchoUntilEnd(loop, *std::move(fd), &(*ended)[(*accepted)++]));
  }
}

Task<absl::Status> CloseListener(Listener* listener) {
  listener->Close();
  co_return absl::OkStatus();
}
Task<absl::Status> DestroyListener(std::unique_ptr<Listener>* listener) {
  listener->reset();
  co_return absl::OkStatus();
}
Task<std::unique_ptr<Listener>> WrapTheListener(IoLoop* loop, UniqueFd fd) {
  co_return loop->WrapListener(std::move(fd));
}

TEST_P(StreamTest, AListenerAcceptsManyAndEndsWhenClosed) {
  for (const int flags : {0, static_cast<int>(SOCK_NONBLOCK)}) {
    sockaddr_in address;
    auto listener = Run(WrapTheListener(&loop(), ListenOnLoopback(flags, &address)));
    constexpr int kClients = 100;
    int accepted = 0;
    std::vector<std::promise<absl::Status>> ended(kClients);
    std::promise<absl::Status> closed;
    loop().Spawn(AcceptAll(&loop(), listener.get(), &accepted, &ended, &closed));
    std::vector<UniqueFd> clients;
    for (int i = 0; i < kClients; ++i) clients.push_back(ConnectTo(address));
    for (int i = 0; i < kClients; ++i) {
      ASSERT_TRUE(SendAll(clients[i].get(), Text(100, i)));
      ::shutdown(clients[i].get(), SHUT_WR);
      EXPECT_EQ(ReadUntilEnd(clients[i].get()), Text(100, i));
    }
    for (auto& end : ended) EXPECT_OK(end.get_future().get());
    EXPECT_OK(Run(CloseListener(listener.get())));
    EXPECT_THAT(closed.get_future().get(), IsCode(StatusCode::kCancelled));
    EXPECT_THAT(Run(listener->Accept()).status(), IsCode(StatusCode::kCancelled));
    EXPECT_OK(Run(DestroyListener(&listener)));
    UniqueFd late(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_NE(::connect(late.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0)
        << "still listens";
  }
}

Task<void> ReceiveUntilStopped(IoLoop* loop, UniqueFd fd, absl::Status* status) {
  const std::unique_ptr<Stream> stream = loop->WrapStream(std::move(fd));
  *status = co_await Echo(stream.get());
}
Task<void> AcceptUntilStopped(IoLoop* loop, UniqueFd fd, absl::Status* status) {
  const std::unique_ptr<Listener> listener = loop->WrapListener(std::move(fd));
  *status = (co_await listener->Accept()).status();
}

TEST_P(StreamTest, StoppingTheLoopEndsWhatWaits) {
  auto [ours, theirs] = SocketPair();
  sockaddr_in address;
  absl::Status receive_status, accept_status;
  {
    IoRig ending(GetParam());
    IoLoop& loop = ending.io_loop();
    loop.Spawn(ReceiveUntilStopped(&loop, std::move(theirs), &receive_status));
    loop.Spawn(AcceptUntilStopped(&loop, ListenOnLoopback(0, &address), &accept_status));
    ASSERT_TRUE(SendAll(ours.get(), "x"));
    char echoed;
    ASSERT_EQ(::recv(ours.get(), &echoed, 1, 0), 1);
  }
  EXPECT_THAT(receive_status, IsCode(StatusCode::kCancelled));
  EXPECT_THAT(accept_status, IsCode(StatusCode::kCancelled));
}

INSTANTIATE_TEST_SUITE_P(AllLoops, StreamTest, testing::ValuesIn(BothLoops()), RigName);

}  // namespace
}  // namespace cowl
