// stream_parts.h: what the streams of both loops share.
#pragma once

#include <sys/socket.h>

#include "absl/status/status.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace cowl {

inline bool IsSocket(int fd) {
  int type;
  socklen_t size = sizeof(type);
  return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
}

inline absl::Status StreamEnded() {
  return absl::CancelledError("the connection was shut down on this side");
}
inline absl::Status ListenerClosed() { return absl::CancelledError("the listener was closed"); }

// The errors of accept(2) that are a passing connection's, not the listener's: the next one may
// work.
bool IsPassingAcceptError(int error_number);

// Pipes have no MSG_NOSIGNAL: for as long as this lives, writing to one whose reader has gone
// raises no SIGPIPE on this thread, only EPIPE. Leaves the thread as it was.
class SigpipeHeld {
 public:
  SigpipeHeld();
  SigpipeHeld(const SigpipeHeld&) = delete;
  SigpipeHeld& operator=(const SigpipeHeld&) = delete;
  ~SigpipeHeld();

 private:
  bool was_blocked_ = false;
};

}  // namespace cowl
