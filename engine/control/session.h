// session.h: what a command has of the one who asked for it, wherever it runs.
// Threads: a session belongs to the thread that runs its command; progress may be called from any.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "control/json.h"
#include "cowl/store.h"

namespace cowl {

struct Session {
  std::vector<UniqueFd> fds;  // what the caller opened and passed on
  Progress progress = [](uint64_t, uint64_t) {
    return true;
  };  // false: the caller wants the work to stop
  // The caller's connection, for commands that wait until it is gone (it becomes readable); -1: the
  // caller is this process.
  int client_fd = -1;
  int client_pid = 0;  // 0: this process, or one that has no number here
};

// Runs one command: the table of commands behind one signature.
using Dispatcher = std::function<absl::StatusOr<Json>(const std::string& verb, const Json& args,
                                                      Session& session)>;

}  // namespace cowl
