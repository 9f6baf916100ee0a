// server.h: the NBD server: listeners, handshakes, and the sessions of all clients.
// A connection starts on the server's own loop, which accepts and shakes hands; from then on it
// lives on the loop of the export it chose, where nothing is shared with other loops.
// Ownership: the table, and the loops of its exports, outlive the server. The server owns its loop
// and thread.
// Threads: all methods from any thread but the loops' own.
// Errors: absl::Status with what, where, what to do.
// Durability: as the devices'; the server holds back nothing that was answered.
// Log: base/log.h: refusals and failures as warnings, connections coming and going at
// debug level.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "device/export_table.h"
#include "io/socket.h"
#include "nbd/session.h"

namespace cowl {

struct ServerOptions {
  // What the server's own loop is made of; exports bring theirs.
  IoBackend io = IoBackend::kUring;
  // Connections at a time, those that still shake hands included; one more is closed at once. Each
  // idle one costs some 10 KiB.
  size_t connections_max = 1000;
  // How long a client may take until it has chosen an export. Leave it alone unless clients are
  // people.
  std::chrono::milliseconds handshake_timeout{10'000};
  // What one client may have under way. More of it helps clients far away, and costs that much
  // memory for each.
  nbd::SessionLimits session;
};

class NbdServer {
 public:
  // Starts the server's thread. Unavailable: as MakeIoLoop.
  static absl::StatusOr<std::unique_ptr<NbdServer>> Start(const ServerOptions& options,
                                                          ExportTable& table);
  // Ends all connections, without waiting for more than what devices are busy with; for a device
  // that never answers without end, since it holds buffers of ours.
  ~NbdServer();
  NbdServer(const NbdServer&) = delete;
  NbdServer& operator=(const NbdServer&) = delete;

  // "unix:PATH" or "tcp:HOST:PORT" (nbd/listen.h says what is refused). Clients can connect when it
  // returns the URI.
  absl::StatusOr<std::string> Listen(std::string_view spec);
  // The sockets of systemd's socket activation: their URIs, none when there are none.
  absl::StatusOr<std::vector<std::string>> ListenActivated();

  // Serves one client on a pair of descriptors, such as stdin and stdout, until it has left.
  absl::Status ServeStream(UniqueFd in, UniqueFd out);

  // Stops listening, ends handshakes, lets every request that was started be finished and answered,
  // then closes. DeadlineExceeded: after `timeout` connections were left, and were cut, which may
  // take a second more; requests that devices are still busy with end later, unanswered, and
  // connection_count() tells of them. Nothing is listened to or served afterwards.
  absl::Status Drain(std::chrono::milliseconds timeout);

  size_t connection_count() const;

 private:
  class Impl;
  explicit NbdServer(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace cowl
