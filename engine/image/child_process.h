// child_process.h: a helper program that serves on a socket: what reads and writes foreign disk
// formats. The child gets its listening socket as descriptor 3 (socket activation: LISTEN_FDS) and
// perhaps one more as 4, nothing else; it cannot gain privileges, dies with the thread that started
// it, and what it says on stderr is kept for error messages. Ownership: the destructor kills and
// reaps it. Threads: start it on a thread that outlives it.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace cowl {

inline constexpr int kChildListenFd = 3;
inline constexpr int kChildExtraFd = 4;

struct ChildOptions {
  std::vector<std::string> arguments;  // [0]: the program, looked up in PATH
  std::string package;                 // what to install when it is missing
  int listen_fd = -1;
  int extra_fd = -1;
  // Where we are root: run as nobody, in a network of its own, able to write no file. For what
  // parses data we do not trust.
  bool untrusted = false;
};

class ChildProcess {
 public:
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(const ChildOptions& options);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  // Waits for it to end by itself. An error tells what it said.
  absl::Status Wait();
  // As Wait, but any exit status will do.
  absl::StatusOr<int> WaitForStatus();
  // What it said so far, one line, shortened; empty: nothing.
  std::string Said() const;

 private:
  ChildProcess(const std::string& name, pid_t pid, UniqueFd output)
      : name_(name), pid_(pid), output_(std::move(output)) {}

  const std::string name_;
  pid_t pid_;  // -1: reaped
  UniqueFd output_;
};

// A listening socket in a folder that only we can enter, and a connection to it; the folder is gone
// when this returns.
struct PrivateSocket {
  UniqueFd listening;
  UniqueFd connected;
};
absl::StatusOr<PrivateSocket> MakePrivateSocket();

}  // namespace cowl
