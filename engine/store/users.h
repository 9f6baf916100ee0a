// users.h: who uses a disk: the clients that have it open.
// Threads: any. Ownership: a User belongs to whoever registered it, and must be removed before it
// goes.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "io/loop.h"

namespace cowl {

class UserList {
 public:
  struct User {
    std::string client;                // as it named itself
    Loop* loop = nullptr;              // where disconnect must be called
    std::function<void()> disconnect;  // empty: not ready to be asked, or asked already
    // Set when the user is gone, so that a disconnect that is under way to its loop finds that out
    // there.
    std::shared_ptr<std::atomic<bool>> gone = std::make_shared<std::atomic<bool>>(false);
  };
  using Handle = std::list<User>::iterator;

  Handle Add(std::string client, Loop* loop);
  void SetDisconnect(Handle user, std::function<void()> disconnect);
  void Remove(Handle user);

  std::vector<std::string> Clients();
  bool empty();
  // Asks everybody to go and waits until they have. DeadlineExceeded names who stayed. Not on one
  // of their loops.
  absl::Status DisconnectAll(const std::string& what, std::chrono::milliseconds patience);

 private:
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::list<User> users_;
};

// FailedPrecondition that names the clients: "WHAT: in use by A, B; disconnect them, or use
// --force".
absl::Status InUse(const std::string& what, const std::vector<std::string>& clients);

}  // namespace cowl
