// Frozen states of clients that were killed.
#include "control/lease_table.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "fake_store.h"

namespace cowl {
namespace {

class Client {
 public:
  Client() : process_(::fork()) {
    if (process_ == 0) {
      for (;;) ::pause();
    }
  }
  ~Client() { Kill(); }
  // It is gone without a trace when this returns. Its number stays.
  void Kill() {
    if (is_dead_) return;
    is_dead_ = true;
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  int pid() const { return process_; }

 private:
  const pid_t process_;
  bool is_dead_ = false;
};

TEST(LeaseTableTest, AStateIsGivenBackWhenItsClientHasEnded) {
  FakeStore store;
  LeaseTable leases(store);
  Client client;
  leases.Add("token", client.pid());
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
  Client client;
  client.Kill();
  leases.Add("token", client.pid());
  leases.ReleaseOrphans();
  EXPECT_EQ(store.Notes().size(), 1u);
}

}  // namespace
}  // namespace cowl
