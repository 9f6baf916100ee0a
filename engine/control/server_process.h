// server_process.h: what `cowl serve` is: the store held open, NBD listeners, the control socket,
// until it is told to end. Threads: blocks the caller, which must be the process's only thread when
// it calls (signals are blocked for all that start). Ownership: everything is given back before it
// returns: clients are drained (10 s at most), sockets removed, the store closed. Where a disk
// still does not answer then, the process ends at once instead, with status 0. Errors: those of
// opening and listening; Unavailable when the store is open elsewhere (the message names the
// process).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace cowl {

struct ServeOptions {
  std::string directory;             // of the store; absolute
  std::vector<std::string> listens;  // "unix:PATH" (absolute), "tcp:HOST:PORT"; empty: sockets from
                                     // systemd, else STORE/nbd.sock
  std::string default_name;          // what the empty export name means; empty: it is refused
  std::string stdio_name;            // not empty: serve one client on stdin and stdout instead
  int threads = 0;
  std::string io = "uring";
  int connections_max = 1000;
  int handshake_timeout_s = 10;
  int inflight_max = 128;
  uint64_t inflight_bytes_max = 64ull << 20;
  bool ends_by_itself = false;  // when nothing is attached and nobody holds it (hold.h)
  // Called once clients can connect; an error ends the server again.
  std::function<absl::Status(const std::vector<std::string>& uris)> ready;
};

// In the message with which a second server gives up; it tells whoever started it that there is
// one.
inline constexpr char kStoreIsServedAlready[] = " is served already, by process ";

absl::Status Serve(const ServeOptions& options);

}  // namespace cowl
