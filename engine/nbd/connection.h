// connection.h: one client's connection on its way from the server's loop, where it shakes hands,
// to the loop of its export.
// Ownership: shared by the coroutine that serves it and whatever waits, posted, to reach it.
// Threads: each group of members belongs to one loop.
// Errors: a connection that fails just ends; `Serve` says why.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "device/export_table.h"
#include "io/socket.h"
#include "nbd/handshake.h"
#include "nbd/session.h"

namespace cowl::nbd {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;

  // `out` is not valid for a socket that goes both ways. `home`: the server's loop.
  Connection(IoLoop& home, ExportTable& table, UniqueFd in, UniqueFd out, std::string client,
             Clock::time_point handshake_deadline, const SessionLimits& limits);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // The whole life of the connection. Starts and ends on `home`; keeps the connection alive
  // meanwhile.
  static Task<void> Serve(std::shared_ptr<Connection> self);

  // On `home`. Drain: finishes and answers what was started. Cut: at once.
  void Drain();
  void Cut();
  // On `home`: ends the handshake when its time is up.
  void CheckHandshake(Clock::time_point now);

 private:
  // The handshake, on home_.
  Task<bool> ShakeHands();
  Task<bool> ReceiveMore();
  Task<size_t> Step();
  std::unique_ptr<Stream> WrapForHandshake();
  void LogEndOfHandshake(const absl::Status& status) const;

  // The session, on the export's loop.
  Task<void> RunSession();
  void StopSession(bool cut);

  IoLoop& home_;
  const std::string client_;
  const Clock::time_point handshake_deadline_;
  const SessionLimits limits_;

  // home_, until the session starts.
  UniqueFd in_;
  UniqueFd out_;
  Handshake handshake_;
  std::unique_ptr<Stream> handshake_stream_;
  std::vector<std::byte> received_;
  std::string to_send_;
  bool timed_out_ = false;

  // home_: what was asked of the connection, and where its session is (null: not there yet).
  bool ends_ = false;
  IoLoop* session_loop_ = nullptr;

  // The export's loop.
  Negotiated negotiated_;
  Session* session_ = nullptr;
};

}  // namespace cowl::nbd
