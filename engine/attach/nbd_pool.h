// nbd_pool.h: a fixed number of connections to one export, that outlive the server: a request whose
// connection breaks is sent again to the server that comes back. What the FUSE file is served from.
// Threads: any number; each request has a connection to itself meanwhile. Errors: as NbdClient's;
// Unavailable once the server stayed away for longer than the time-out (later requests fail at once
// until it is back). A request may be sent twice: the same bytes at the same place, in the time the
// one who asks waits for the one answer. Changes that overlap are sent one after the other, so that
// none that is sent again undoes one that was answered meanwhile.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "attach/nbd_client.h"
#include "attach/range_turns.h"

namespace cowl {

struct PoolOptions {
  std::string socket_path;
  std::string export_name;
  std::string identity;  // what the export must say of itself, always
  int connections = 1;
  std::chrono::milliseconds dead_server_timeout{0};
};

class NbdPool {
 public:
  // Connects once, to find out what there is to serve.
  static absl::StatusOr<std::unique_ptr<NbdPool>> Open(const PoolOptions& options);

  using Request = std::function<absl::Status(NbdClient&)>;
  // Runs `request` on a free connection, again on a new one if it ends in Unavailable.
  absl::Status Run(const Request& request);
  // The same for one that changes the range.
  absl::Status RunChange(uint64_t offset_bytes, uint64_t length_bytes, const Request& request);

  const ExportInfo& info() const { return info_; }
  uint64_t size_bytes() const;
  // Asks the server anew how large the export is; all connections are made afresh when it changed.
  absl::StatusOr<uint64_t> RefreshSize();

 private:
  struct Slot {
    std::unique_ptr<NbdClient> client;
    uint64_t generation = 0;
  };

  explicit NbdPool(const PoolOptions& options) : options_(options), slots_(options.connections) {}
  Slot* TakeSlot();
  void GiveBack(Slot* slot);
  absl::Status Reconnect(Slot* slot, std::chrono::steady_clock::time_point deadline);
  absl::StatusOr<std::unique_ptr<NbdClient>> ConnectOnce();
  std::chrono::steady_clock::time_point Deadline();
  void NoteReachable(bool reachable);

  const PoolOptions options_;
  ExportInfo info_;
  RangeTurns changes_;

  // Guarded by mutex_.
  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<Slot> slots_;
  std::vector<Slot*> free_;
  uint64_t size_bytes_ = 0;
  uint64_t generation_ = 0;  // raised to make every connection old
  bool away_ = false;        // since away_since_ no connection could be made
  std::chrono::steady_clock::time_point away_since_;
};

}  // namespace cowl
