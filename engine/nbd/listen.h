// listen.h: sockets that clients connect to: "unix:PATH" and "tcp:HOST:PORT", or those that systemd
// passes.
// Ownership: BoundSocket owns its descriptor and, when it made it, its socket file, which goes with
// it.
// Threads: any; these calls block briefly.
// Errors: one line that says what, where and what to do.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace cowl::nbd {

struct ListenSpec {
  enum class Kind { kUnix, kTcp };
  Kind kind = Kind::kUnix;
  std::string path;   // kUnix
  std::string host;   // kTcp, without brackets
  uint16_t port = 0;  // kTcp; 0: the kernel chooses
};

// InvalidArgument that shows the text and what is expected.
absl::StatusOr<ListenSpec> ParseListenSpec(std::string_view text);

// The file of a unix socket: removed when this goes away, unless somebody has put another in its
// place.
class SocketFile {
 public:
  SocketFile() = default;
  // Remembers the file that is at `path` now.
  explicit SocketFile(std::string path);
  SocketFile(SocketFile&& other) noexcept;
  SocketFile& operator=(SocketFile&& other) noexcept;
  SocketFile(const SocketFile&) = delete;
  SocketFile& operator=(const SocketFile&) = delete;
  ~SocketFile() { Remove(); }
  void Remove();

 private:
  std::string path_;  // empty: nothing to remove
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct BoundSocket {
  UniqueFd fd;  // listening
  std::string uri;
  SocketFile file;
};

// unix: mode 0600; the socket of a server that died is replaced, one that answers is refused, and
// so is any other file. tcp: loopback alone, because the server has no TLS.
absl::StatusOr<BoundSocket> Bind(const ListenSpec& spec);

// The sockets of systemd's socket activation, if this process was started that way, else none.
// Takes them: asked again, there are none. Each must be a listening stream socket, of unix or of
// loopback.
absl::StatusOr<std::vector<BoundSocket>> TakeActivatedSockets();

}  // namespace cowl::nbd
