// Streams and listeners on every loop: what socket.h promises.
#include <sys/socket.h>

#include <numeric>

#include "base/bytes.h"
#include "io/socket.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

std::pair<UniqueFd, UniqueFd> SocketPair() {
  int fds[2];
  COWL_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

class StreamTest : public IoRigTest {
 protected:
  IoLoop& loop() { return rig().io_loop(); }
};

Task<absl::Status> Echo(std::unique_ptr<Stream> stream) {
  std::vector<std::byte> buffer(1 << 16);
  for (;;) {
    absl::StatusOr<size_t> got = co_await stream->Receive(buffer);
    if (!got.ok()) co_return got.status();
    if (*got == 0) co_return absl::OkStatus();
    const iovec part{buffer.data(), *got};
    COWL_CO_RETURN_IF_ERROR(co_await stream->Send({&part, 1}));
  }
}

Task<void> SpawnEcho(IoLoop& loop, UniqueFd fd) {
  const absl::Status status = co_await Echo(loop.WrapStream(std::move(fd)));
  EXPECT_OK(status);
}

TEST_P(StreamTest, EchoesALargeMessage) {
  auto [ours, theirs] = SocketPair();
  loop().Spawn(SpawnEcho(loop(), std::move(theirs)));
  std::string sent(8 << 20, 'x');
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7 + i / 4096);
  std::thread sender([&, fd = ours.get()] {
    for (size_t done = 0; done < sent.size();)
      done += ::send(fd, sent.data() + done, sent.size() - done, 0);
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
}

INSTANTIATE_TEST_SUITE_P(AllLoops, StreamTest, testing::ValuesIn(LoopRigs()), RigName);

}  // namespace
}  // namespace cowl
