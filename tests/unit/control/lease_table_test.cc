// Frozen states of clients that were killed.
#include "control/lease_table.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "fake_store.h"

namespace cowl {
namespace {

// A connection whose other end is held by a process of its own.
class Peer {
 public:
  Peer() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    // The kernel picks a name.
    const UniqueFd listening(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(listening.get(), reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t)),
              0);
    EXPECT_EQ(::listen(listening.get(), 1), 0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    process_ = ::fork();
    if (process_ == 0) {
      const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
      if (::connect(socket, reinterpret_cast<sockaddr*>(&address), size) != 0) _exit(1);
      for (;;) ::pause();
    }
    connection_.Reset(::accept(listening.get(), nullptr, nullptr));
    EXPECT_TRUE(connection_.valid());
  }
  ~Peer() { Kill(); }
  // It is gone without a trace when this returns.
  void Kill() {
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
    process_ = 0;
  }
  int connection() const { return connection_.get(); }

 private:
  pid_t process_ = 0;
  UniqueFd connection_;
};

TEST(LeaseTableTest, AStateIsGivenBackWhenItsClientHasEnded) {
  FakeStore store;
  LeaseTable leases(store);
  Peer client;
  leases.Add("token", client.connection());
  leases.ReleaseOrphans();
  EXPECT_EQ(store.Notes().size(), 0u);
  client.Kill();
  leases.ReleaseOrphans();
  EXPECT_EQ(store.Notes().size(), 1u);
  leases.ReleaseOrphans();
  EXPECT_EQ(store.Notes().size(), 1u);
}

TEST(LeaseTableTest, AStateOfAClientThatEndedWhileItWasFrozenIsGivenBack) {
  FakeStore store;
  LeaseTable leases(store);
  Peer client;
  client.Kill();
  leases.Add("token", client.connection());
  leases.ReleaseOrphans();
  EXPECT_EQ(store.Notes().size(), 1u);
}

}  // namespace
}  // namespace cowl
