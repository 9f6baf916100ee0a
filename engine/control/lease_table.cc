#include "control/lease_table.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/log.h"
#include "base/status.h"

namespace cowl {

LeaseTable::Holder LeaseTable::HolderOf(int pid) {
  Holder holder;
  if (pid <= 0) return holder;
  holder.process = UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // It may have been killed while the state was being frozen for it.
  holder.has_ended = !holder.process.valid() && errno == ESRCH;
  return holder;
}

bool LeaseTable::HasEnded(const Holder& holder) {
  pollfd poll_fd{holder.process.get(), POLLIN, 0};
  return holder.has_ended || (holder.process.valid() && ::poll(&poll_fd, 1, 0) > 0);
}

void LeaseTable::Add(const std::string& token, int client_pid) {
  if (token.empty()) return;
  std::lock_guard lock(mutex_);
  holders_[token] = HolderOf(client_pid);
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
