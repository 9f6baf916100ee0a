// control_server.h: runs commands that come over STORE/control.sock, each on a thread of its own.
// Conversation: the server greets {type hello, protocol, version, pid}; the client sends {type run,
// protocol, version, verb, args} with descriptors; the server answers {type begun} before it
// starts, so that whoever hears nothing knows that nothing was done, any number of {type progress,
// done, total} and one {type result, value} or {type error, code, message}; then both close. A
// client that closes early cancels: the command's progress call says so. Only the server's own user
// and root may connect (SO_PEERCRED; the socket has mode 0600). Threads: one that accepts, one for
// each connection (at most kConnectionsMax). Nothing a client sends ends the server. Ownership:
// Stop (or the destructor) cancels what runs, joins every thread and removes the socket.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "control/channel.h"
#include "control/session.h"

namespace cowl {

struct ControlServerOptions {
  std::string directory;  // the store
  std::string version;    // of this program
  int request_timeout_ms = 10'000;
  int progress_interval_ms = 100;
};

class ControlServer {
 public:
  static constexpr int kConnectionsMax = 256;

  // The caller holds the store's lock: a socket that lies there is stale, and is replaced.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(ControlServerOptions options,
                                                              Dispatcher dispatcher);
  ~ControlServer();

  // Takes no more connections and makes the running commands' progress calls return false; waits
  // for all to end.
  void Stop();

 private:
  ControlServer(ControlServerOptions options, Dispatcher dispatcher)
      : options_(std::move(options)), dispatcher_(std::move(dispatcher)) {}
  absl::Status Bind();
  void AcceptLoop();
  void StartConnection(UniqueFd socket);
  void Serve(UniqueFd socket);
  absl::Status Converse(Channel& channel);
  absl::StatusOr<Json> AwaitRequest(Channel& channel, Session& session);
  absl::StatusOr<Json> Run(Channel& channel, const Json& request, Session& session);

  const ControlServerOptions options_;
  const Dispatcher dispatcher_;
  UniqueFd directory_;
  UniqueFd listener_;
  UniqueFd stop_event_;  // readable once stopping_
  std::thread accept_thread_;
  std::atomic<bool> stopping_ = false;

  std::mutex mutex_;  // guards what follows
  std::condition_variable ended_;
  int connection_count_ = 0;
  std::set<int> awaited_;  // sockets of clients that have not asked for anything yet
};

}  // namespace cowl
