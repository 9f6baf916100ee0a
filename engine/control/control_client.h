// control_client.h: sends commands to the server that has a store open.
// Threads: one. Ownership: one client is one connection and one command. Blocking; a server that
// does not greet within ten seconds is an error, a command may take as long as it takes.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "control/channel.h"
#include "cowl/store.h"

namespace cowl {

class ControlClient {
 public:
  // nullopt: no server listens there. FailedPrecondition: it is of another version; the message
  // names both.
  static absl::StatusOr<std::optional<ControlClient>> Connect(const std::string& directory,
                                                              const std::string& version);

  // Runs `verb` in the server. `progress` returning false, or `interrupted` true after a signal,
  // cancels: Cancelled.
  absl::StatusOr<Json> Call(const std::string& verb, const Json& args, std::span<const int> fds,
                            const Progress& progress,
                            const std::function<bool()>& interrupted = {});

  // The same in halves, for commands that hold until they are let go: after FinishSending the
  // answer comes.
  absl::Status SendRequest(const std::string& verb, const Json& args, std::span<const int> fds);
  absl::StatusOr<Json> AwaitResult(const Progress& progress,
                                   const std::function<bool()>& interrupted = {});
  // Waits for the first sign of progress: by then a holding command holds. The error, when it
  // refuses.
  absl::Status AwaitProgress();
  void FinishSending() { channel_.FinishSending(); }
  // Blocks until the server has closed the connection and its process has ended, or the time is
  // over.
  bool WaitGone(int timeout_ms);

  pid_t server_pid() const { return pid_; }

  // False after an error: the server has not begun with the request, and it has had no effect.
  bool has_begun() const { return has_begun_; }

 private:
  ControlClient(UniqueFd socket, std::string version);
  absl::Status CheckHello(const Json& hello, const std::string& directory);

  Channel channel_;
  std::string version_;
  bool has_begun_ = false;
  pid_t pid_ = 0;
  UniqueFd process_;  // pidfd; invalid where the kernel gives none
};

}  // namespace cowl
