#include "control/lease_table.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "base/log.h"
#include "base/status.h"

namespace cowl {
namespace {

UniqueFd PeerProcess(int socket) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.pid <= 0)
    return UniqueFd();
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
}

bool HasEnded(const UniqueFd& process) {
  pollfd poll_fd{process.get(), POLLIN, 0};
  return process.valid() && ::poll(&poll_fd, 1, 0) > 0;
}

}  // namespace

LeaseTable::~LeaseTable() {
  for (const auto& [token, holder] : holders_) Release(token);
}

void LeaseTable::Add(const std::string& token, int client_fd) {
  if (token.empty()) return;
  std::lock_guard lock(mutex_);
  holders_[token] = PeerProcess(client_fd);
}

void LeaseTable::Forget(const std::string& token) {
  std::lock_guard lock(mutex_);
  holders_.erase(token);
}

void LeaseTable::ReleaseOrphans() {
  std::vector<std::string> orphans;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [token, holder] : holders_) {
      if (HasEnded(holder)) orphans.push_back(token);
    }
    for (const std::string& token : orphans) holders_.erase(token);
  }
  for (const std::string& token : orphans) Release(token);
}

void LeaseTable::Release(const std::string& token) {
  if (const absl::Status status = store_.Release(token); !status.ok()) {
    Log().warn("give back a frozen state: {}", Message(status));
  }
}

}  // namespace cowl
