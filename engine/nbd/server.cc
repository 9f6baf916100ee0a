#include "nbd/server.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "io/loop_thread.h"
#include "nbd/connection.h"
#include "nbd/listen.h"
#include "nbd/peer.h"

namespace cowl {

using nbd::BoundSocket;
using nbd::Connection;

namespace {

constexpr std::chrono::milliseconds kHandshakeCheckPeriod{100};
// After accept failed for want of descriptors or memory.
constexpr std::chrono::milliseconds kAcceptPause{100};
// After connections were cut: how long Drain still waits for devices.
constexpr std::chrono::milliseconds kCutWait{1000};

}  // namespace

class NbdServer::Impl {
 public:
  Impl(const ServerOptions& options, ExportTable& table, std::unique_ptr<LoopThread> thread)
      : options_(options), table_(table), thread_(std::move(thread)), loop_(thread_->loop()) {}

  ~Impl() {
    Post(&Impl::CutAll);
    WaitUntilIdle(std::nullopt);
  }

  absl::StatusOr<std::string> Listen(BoundSocket socket) {
    std::string uri = socket.uri;
    if (!RunOn(loop_, StartListening(std::move(socket))))
      return Unavailable("the server is shutting down");
    return uri;
  }

  absl::Status ServeStream(UniqueFd in, UniqueFd out) {
    return RunOn(loop_, ServePair(std::move(in), std::move(out)));
  }

  absl::Status Drain(std::chrono::milliseconds timeout) {
    Post(&Impl::DrainAll);
    if (WaitUntilIdle(timeout)) return absl::OkStatus();
    const size_t count = connection_count();
    Post(&Impl::CutAll);
    WaitUntilIdle(kCutWait);
    return absl::DeadlineExceededError(absl::StrCat(
        count, " connections had requests unfinished after ", timeout.count(), " ms and were cut"));
  }

  size_t connection_count() const {
    std::lock_guard lock(mutex_);
    return connections_.size();
  }

 private:
  void Post(void (Impl::*work)()) {
    loop_.Post([this, work] { (this->*work)(); });
  }

  // --- The server's loop ---

  Task<bool> StartListening(BoundSocket socket) {
    if (is_draining_) co_return false;
    ChangeAcceptorCount(+1);
    StartDetached(Accept(std::move(socket)));
    co_return true;
  }

  Task<void> Accept(BoundSocket socket) {
    const std::unique_ptr<Listener> listener = loop_.WrapListener(std::move(socket.fd));
    listeners_.push_back(listener.get());
    for (;;) {
      auto fd = co_await listener->Accept();
      if (fd.ok()) {
        StartConnection(*std::move(fd));
      } else if (is_draining_ || absl::IsCancelled(fd.status())) {
        break;
      } else {
        Log().warn("nbd: {}: {}", socket.uri, Message(fd.status()));
        SleepAwaiter pause = Sleep(loop_, kAcceptPause);
        co_await pause;
      }
    }
    std::erase(listeners_, listener.get());
    socket.file.Remove();
    ChangeAcceptorCount(-1);
  }

  void StartConnection(UniqueFd fd) {
    std::string client = nbd::DescribePeer(fd.get());
    if (is_draining_) return;
    if (connections_.size() >= options_.connections_max) return RefuseConnection(client);
    is_refusing_ = false;
    nbd::SetConnectionOptions(fd.get());
    StartDetached(ServeConnection(AddConnection(std::move(fd), UniqueFd(), std::move(client))));
  }

  void RefuseConnection(const std::string& client) {
    if (!is_refusing_) {
      Log().warn("nbd: {}: refused: there are {} connections, the most allowed (max-connections)",
                 client, connections_.size());
    }
    is_refusing_ = true;
  }

  Task<absl::Status> ServePair(UniqueFd in, UniqueFd out) {
    if (is_draining_) co_return Unavailable("the server is shutting down");
    co_await ServeConnection(AddConnection(std::move(in), std::move(out), "stdio client"));
    co_return absl::OkStatus();
  }

  std::shared_ptr<Connection> AddConnection(UniqueFd in, UniqueFd out, std::string client) {
    const auto deadline = Connection::Clock::now() + options_.handshake_timeout;
    auto connection = std::make_shared<Connection>(loop_, table_, std::move(in), std::move(out),
                                                   std::move(client), deadline, options_.session);
    std::lock_guard lock(mutex_);
    connections_.push_back(connection);
    return connection;
  }

  Task<void> ServeConnection(std::shared_ptr<Connection> connection) {
    newest_handshake_deadline_ = Connection::Clock::now() + options_.handshake_timeout;
    if (!watches_handshakes_) StartDetached(WatchHandshakes());
    co_await Connection::Serve(connection);
    std::lock_guard lock(mutex_);
    std::erase(connections_, connection);
    if (IsIdle()) idle_.notify_all();
  }

  // One sleeper for all handshakes, and none while there are none. The end of the loop ends it, if
  // it still sleeps then.
  Task<void> WatchHandshakes() {
    watches_handshakes_ = true;
    while (!is_draining_ &&
           Connection::Clock::now() <= newest_handshake_deadline_ + 2 * kHandshakeCheckPeriod) {
      SleepAwaiter pause = Sleep(loop_, kHandshakeCheckPeriod);
      co_await pause;
      for (const auto& connection : connections_)
        connection->CheckHandshake(Connection::Clock::now());
    }
    watches_handshakes_ = false;
  }

  void DrainAll() {
    StopListening();
    for (const auto& connection : connections_) connection->Drain();
  }

  void CutAll() {
    StopListening();
    for (const auto& connection : connections_) connection->Cut();
  }

  void StopListening() {
    is_draining_ = true;
    for (Listener* const listener : listeners_) listener->Close();
  }

  void ChangeAcceptorCount(int change) {
    std::lock_guard lock(mutex_);
    acceptor_count_ += change;
    if (IsIdle()) idle_.notify_all();
  }

  // --- Any thread ---

  bool IsIdle() const { return acceptor_count_ == 0 && connections_.empty(); }

  bool WaitUntilIdle(std::optional<std::chrono::milliseconds> timeout) {
    std::unique_lock lock(mutex_);
    const auto is_idle = [this] { return IsIdle(); };
    if (timeout) return idle_.wait_for(lock, *timeout, is_idle);
    idle_.wait(lock, is_idle);
    return true;
  }

  const ServerOptions options_;
  ExportTable& table_;

  // The server's loop.
  bool is_draining_ = false;
  bool is_refusing_ = false;  // and said so
  bool watches_handshakes_ = false;
  Connection::Clock::time_point newest_handshake_deadline_;
  std::vector<Listener*> listeners_;

  // Changed on the server's loop under the mutex; read there without, elsewhere with it.
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::vector<std::shared_ptr<Connection>> connections_;
  int acceptor_count_ = 0;

  // Goes first: its end is the end of all tasks.
  const std::unique_ptr<LoopThread> thread_;
  IoLoop& loop_;
};

NbdServer::NbdServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
NbdServer::~NbdServer() = default;

absl::StatusOr<std::unique_ptr<NbdServer>> NbdServer::Start(const ServerOptions& options,
                                                            ExportTable& table) {
  COWL_ASSIGN_OR_RETURN(auto thread, LoopThread::Start(options.io, "cowl-nbd"));
  return std::unique_ptr<NbdServer>(
      new NbdServer(std::make_unique<Impl>(options, table, std::move(thread))));
}

absl::StatusOr<std::string> NbdServer::Listen(std::string_view spec) {
  COWL_ASSIGN_OR_RETURN(const nbd::ListenSpec parsed, nbd::ParseListenSpec(spec));
  COWL_ASSIGN_OR_RETURN(BoundSocket socket, nbd::Bind(parsed));
  return impl_->Listen(std::move(socket));
}

absl::StatusOr<std::vector<std::string>> NbdServer::ListenActivated() {
  COWL_ASSIGN_OR_RETURN(std::vector<BoundSocket> sockets, nbd::TakeActivatedSockets());
  std::vector<std::string> uris;
  for (BoundSocket& socket : sockets) {
    COWL_ASSIGN_OR_RETURN(std::string uri, impl_->Listen(std::move(socket)));
    uris.push_back(std::move(uri));
  }
  return uris;
}

absl::Status NbdServer::ServeStream(UniqueFd in, UniqueFd out) {
  return impl_->ServeStream(std::move(in), std::move(out));
}

absl::Status NbdServer::Drain(std::chrono::milliseconds timeout) { return impl_->Drain(timeout); }

size_t NbdServer::connection_count() const { return impl_->connection_count(); }

}  // namespace cowl
