#include "store/users.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr size_t kNamedClientsMax = 3;

std::string Named(const std::vector<std::string>& clients) {
  if (clients.size() <= kNamedClientsMax) return absl::StrJoin(clients, ", ");
  const std::vector<std::string> first(clients.begin(), clients.begin() + kNamedClientsMax);
  return absl::StrCat(absl::StrJoin(first, ", "), " and ", clients.size() - kNamedClientsMax,
                      " more");
}

}  // namespace

absl::Status InUse(const std::string& what, const std::vector<std::string>& clients) {
  return FailedPrecondition(
      absl::StrCat(what, ": in use by ", Named(clients), "; disconnect first, or use --force"));
}

UserList::Handle UserList::Add(std::string client, Loop* loop) {
  std::lock_guard lock(mutex_);
  User user;
  user.client = std::move(client);
  user.loop = loop;
  return users_.insert(users_.end(), std::move(user));
}

void UserList::SetDisconnect(Handle user, std::function<void()> disconnect) {
  std::lock_guard lock(mutex_);
  user->disconnect = std::move(disconnect);
}

void UserList::Remove(Handle user) {
  std::lock_guard lock(mutex_);
  *user->gone = true;
  users_.erase(user);
  changed_.notify_all();
}

std::vector<std::string> UserList::Clients() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> clients;
  for (const User& user : users_) clients.push_back(user.client);
  return clients;
}

bool UserList::empty() {
  std::lock_guard lock(mutex_);
  return users_.empty();
}

absl::Status UserList::DisconnectAll(const std::string& what, std::chrono::milliseconds patience) {
  const auto give_up = std::chrono::steady_clock::now() + patience;
  std::unique_lock lock(mutex_);
  // Those who are still between opening and SetDisconnect are asked in a later round.
  while (!users_.empty()) {
    if (std::chrono::steady_clock::now() >= give_up) {
      lock.unlock();
      return absl::DeadlineExceededError(
          absl::StrCat(what, ": ", Named(Clients()), " did not let go; end it and try again"));
    }
    for (User& user : users_) {
      if (!user.disconnect) continue;
      user.loop->Post([disconnect = std::exchange(user.disconnect, nullptr), gone = user.gone] {
        if (!*gone) disconnect();
      });
    }
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
  return absl::OkStatus();
}

}  // namespace cowl
