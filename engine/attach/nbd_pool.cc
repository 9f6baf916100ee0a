#include "attach/nbd_pool.h"

#include <algorithm>
#include <thread>

#include "base/status.h"

namespace cowl {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kRetryMin{20};
constexpr milliseconds kRetryMax{1000};
constexpr int kHandshakeMsMax = 10000;

}  // namespace

absl::StatusOr<std::unique_ptr<NbdPool>> NbdPool::Open(const PoolOptions& options) {
  std::unique_ptr<NbdPool> pool(new NbdPool(options));
  absl::StatusOr<std::unique_ptr<NbdClient>> first = pool->ConnectOnce();
  if (!first.ok()) return first.status();
  pool->info_ = (*first)->info();
  pool->size_bytes_ = pool->info_.size_bytes;
  pool->slots_[0].client = *std::move(first);
  for (Slot& slot : pool->slots_) pool->free_.push_back(&slot);
  return pool;
}

absl::Status NbdPool::RunChange(uint64_t offset_bytes, uint64_t length_bytes,
                                const Request& request) {
  const RangeTurns::Turn turn(changes_, offset_bytes, offset_bytes + length_bytes);
  return Run(request);
}

absl::Status NbdPool::Run(const Request& request) {
  Slot* slot = TakeSlot();
  const Clock::time_point deadline = Deadline();
  absl::Status status;
  while (true) {
    status = Reconnect(slot, deadline);
    if (!status.ok()) break;
    status = request(*slot->client);
    if (!absl::IsUnavailable(status)) break;
    slot->client.reset();
    if (Clock::now() >= deadline) break;
  }
  GiveBack(slot);
  return status;
}

uint64_t NbdPool::size_bytes() const {
  std::lock_guard lock(mutex_);
  return size_bytes_;
}

absl::StatusOr<uint64_t> NbdPool::RefreshSize() {
  absl::StatusOr<std::unique_ptr<NbdClient>> fresh = ConnectOnce();
  if (!fresh.ok()) return fresh.status();
  std::lock_guard lock(mutex_);
  const uint64_t size_bytes = (*fresh)->info().size_bytes;
  if (size_bytes != size_bytes_) ++generation_;
  size_bytes_ = size_bytes;
  return size_bytes;
}

NbdPool::Slot* NbdPool::TakeSlot() {
  std::unique_lock lock(mutex_);
  freed_.wait(lock, [this] { return !free_.empty(); });
  Slot* slot = free_.back();
  free_.pop_back();
  if (slot->generation != generation_) {
    slot->client.reset();
    slot->generation = generation_;
  }
  return slot;
}

void NbdPool::GiveBack(Slot* slot) {
  std::lock_guard lock(mutex_);
  free_.push_back(slot);
  freed_.notify_one();
}

// A server that has been away for a while is given no new grace by each request: those after the
// time-out fail at once.
Clock::time_point NbdPool::Deadline() {
  std::lock_guard lock(mutex_);
  return (away_ ? away_since_ : Clock::now()) + options_.dead_server_timeout;
}

void NbdPool::NoteReachable(bool reachable) {
  std::lock_guard lock(mutex_);
  if (!reachable && !away_) away_since_ = Clock::now();
  away_ = !reachable;
}

absl::Status NbdPool::Reconnect(Slot* slot, Clock::time_point deadline) {
  milliseconds pause = kRetryMin;
  while (slot->client == nullptr) {
    absl::StatusOr<std::unique_ptr<NbdClient>> client = ConnectOnce();
    if (client.ok()) {
      NoteReachable(true);
      slot->client = *std::move(client);
      break;
    }
    NoteReachable(false);
    if (Clock::now() + pause >= deadline) return client.status();
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kRetryMax);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<NbdClient>> NbdPool::ConnectOnce() {
  absl::StatusOr<std::unique_ptr<NbdClient>> client =
      NbdClient::Connect(options_.socket_path, options_.export_name, kHandshakeMsMax);
  if (!client.ok()) return client.status();
  if ((*client)->info().identity != options_.identity) {
    return FailedPrecondition("export " + options_.export_name +
                              " is now another disk than the one attached");
  }
  return client;
}

}  // namespace cowl
