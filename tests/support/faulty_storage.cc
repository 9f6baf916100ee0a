#include "support/faulty_storage.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

using Op = IoRequest::Op;

uint64_t LengthOf(const IoRequest& request) {
  uint64_t length = request.length_bytes;
  for (const iovec& buffer : request.buffers) length += buffer.iov_len;
  return length;
}

void FlipIn(const IoRequest& request, uint64_t offset_bytes, uint8_t mask) {
  uint64_t at = request.offset_bytes;
  for (const iovec& buffer : request.buffers) {
    if (offset_bytes >= at && offset_bytes - at < buffer.iov_len) {
      static_cast<std::byte*>(buffer.iov_base)[offset_bytes - at] ^= std::byte{mask};
      return;
    }
    at += buffer.iov_len;
  }
}

}  // namespace

template <typename F>
bool FaultPlan::Armed<F>::IsHit(const std::string& name) {
  if (name.find(fault.name_part) == std::string::npos) return false;
  ++seen;
  return seen >= fault.nth && seen - fault.nth < fault.count;
}

void FaultPlan::FailNth(const Fault& fault) {
  std::lock_guard lock(mutex_);
  armed_.push_back({fault});
}

void FaultPlan::FailNth(const CallFault& fault) {
  std::lock_guard lock(mutex_);
  armed_calls_.push_back({fault});
}

void FaultPlan::ClearFaults() {
  std::lock_guard lock(mutex_);
  armed_.clear();
  armed_calls_.clear();
}

void FaultPlan::SetRoomBytes(std::optional<uint64_t> bytes) {
  std::lock_guard lock(mutex_);
  room_bytes_ = bytes;
}

std::optional<uint64_t> FaultPlan::room_bytes() const {
  std::lock_guard lock(mutex_);
  return room_bytes_;
}

void FaultPlan::FlipBit(const std::string& name, uint64_t offset_bytes, int bit) {
  std::lock_guard lock(mutex_);
  flips_[name][offset_bytes] ^= static_cast<uint8_t>(1u << bit);
}

uint64_t FaultPlan::hit_count() const {
  std::lock_guard lock(mutex_);
  return hit_count_;
}

absl::Status FaultPlan::Before(const std::string& name, const IoRequest& request) {
  std::lock_guard lock(mutex_);
  int error_number = 0;
  for (Armed<Fault>& armed : armed_) {
    if (armed.fault.op == request.op && armed.IsHit(name)) error_number = armed.fault.error_number;
  }
  if (error_number != 0) {
    ++hit_count_;
    return ErrnoStatus(error_number, "injected fault in", name);
  }
  if (request.op == Op::kWrite || request.op == Op::kAllocate) {
    return TakeRoom(name, request.offset_bytes, LengthOf(request));
  }
  return absl::OkStatus();
}

absl::Status FaultPlan::BeforeCall(CallFault::Call call, const std::string& name) {
  std::lock_guard lock(mutex_);
  int error_number = 0;
  for (Armed<CallFault>& armed : armed_calls_) {
    if (armed.fault.call == call && armed.IsHit(name)) error_number = armed.fault.error_number;
  }
  if (error_number == 0) return absl::OkStatus();
  ++hit_count_;
  return ErrnoStatus(error_number, "injected fault at", name);
}

absl::Status FaultPlan::TakeRoom(const std::string& name, uint64_t offset_bytes,
                                 uint64_t length_bytes) {
  if (length_bytes == 0) return absl::OkStatus();
  Blocks& blocks = blocks_[name];
  std::vector<uint64_t> fresh;
  for (uint64_t block = BlocksFloor(offset_bytes); block < BlocksCeil(offset_bytes + length_bytes);
       ++block) {
    if (!blocks.contains(block)) fresh.push_back(block);
  }
  if (room_bytes_) {
    const uint64_t needed = fresh.size() * kBlockBytes;
    if (needed > *room_bytes_) {
      ++hit_count_;
      return ErrnoStatus(ENOSPC, "write", name);
    }
    *room_bytes_ -= needed;
  }
  blocks.insert(fresh.begin(), fresh.end());
  return absl::OkStatus();
}

void FaultPlan::GiveRoom(const std::string& name, uint64_t first_block, uint64_t end_block) {
  if (first_block >= end_block) return;
  Blocks& blocks = blocks_[name];
  const auto first = blocks.lower_bound(first_block);
  const auto end = blocks.lower_bound(end_block);
  if (room_bytes_) *room_bytes_ += static_cast<uint64_t>(std::distance(first, end)) * kBlockBytes;
  blocks.erase(first, end);
}

void FaultPlan::ForgetFlips(const std::string& name, uint64_t offset_bytes, uint64_t length_bytes) {
  const auto found = flips_.find(name);
  if (found == flips_.end()) return;
  std::erase_if(found->second, [&](const auto& flip) {
    return flip.first >= offset_bytes && flip.first - offset_bytes < length_bytes;
  });
}

void FaultPlan::After(const std::string& name, const IoRequest& request) {
  if (!request.status.ok()) return;
  std::lock_guard lock(mutex_);
  const uint64_t offset = request.offset_bytes;
  const uint64_t length = LengthOf(request);
  switch (request.op) {
    case Op::kRead:
      if (const auto found = flips_.find(name); found != flips_.end()) {
        for (const auto& [at, mask] : found->second) FlipIn(request, at, mask);
      }
      break;
    case Op::kWrite:
      ForgetFlips(name, offset, length);
      break;
    case Op::kPunchHole:
      ForgetFlips(name, offset, length);
      GiveRoom(name, BlocksCeil(offset), BlocksFloor(offset + length));
      break;
    case Op::kTruncate:
      ForgetFlips(name, offset, UINT64_MAX);
      GiveRoom(name, BlocksCeil(offset), UINT64_MAX);
      break;
    case Op::kSync:
    case Op::kAllocate:
      break;
  }
}

void FaultPlan::NoteFile(const std::string& name, uint64_t size_bytes) {
  std::lock_guard lock(mutex_);
  if (blocks_.contains(name)) return;
  Blocks& blocks = blocks_[name];
  for (uint64_t block = 0; block < BlocksCeil(size_bytes); ++block)
    blocks.insert(blocks.end(), block);
}

void FaultPlan::NoteRemoved(const std::string& name) {
  std::lock_guard lock(mutex_);
  GiveRoom(name, 0, UINT64_MAX);
  blocks_.erase(name);
  flips_.erase(name);
}

void FaultPlan::NoteRenamed(const std::string& from, const std::string& to) {
  std::lock_guard lock(mutex_);
  GiveRoom(to, 0, UINT64_MAX);
  blocks_[to] = std::exchange(blocks_[from], {});
  flips_[to] = std::exchange(flips_[from], {});
  blocks_.erase(from);
  flips_.erase(from);
}

class FaultyFile : public File {
 public:
  FaultyFile(std::string name, std::unique_ptr<File> inner, FaultPlan& plan)
      : File(inner->path()), name_(std::move(name)), inner_(std::move(inner)), plan_(plan) {}

  absl::StatusOr<uint64_t> SizeBytes() const override { return inner_->SizeBytes(); }
  absl::StatusOr<uint64_t> DiskBytes() const override { return inner_->DiskBytes(); }

  bool Start(IoRequest& request) override {
    request.status = plan_.Before(name_, request);
    if (!request.status.ok()) return true;
    const auto state = std::make_shared<Forwarded>();
    StartDetached(Forward(this, &request, state));
    state->in_start = false;
    return state->is_done;
  }

 private:
  struct Forwarded {
    bool in_start = true;
    bool is_done = false;
  };

  // The inner file's own awaiter, made from a request.
  struct InnerAwaiter {
    File& file;
    IoRequest request;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) {
      request.waiter = waiter;
      return !file.Start(request);
    }
    absl::Status await_resume() { return std::move(request.status); }
  };

  static Task<void> Forward(FaultyFile* self, IoRequest* request,
                            std::shared_ptr<Forwarded> state) {
    InnerAwaiter inner{*self->inner_, *request};
    request->status = co_await inner;
    self->plan_.After(self->name_, *request);
    state->is_done = true;
    if (!state->in_start) request->waiter.resume();
  }

  const std::string name_;
  const std::unique_ptr<File> inner_;
  FaultPlan& plan_;
};

absl::StatusOr<std::unique_ptr<File>> FaultyStorage::Open(const std::string& name, OpenMode mode) {
  const CallFault::Call call =
      mode == OpenMode::kCreate ? CallFault::Call::kCreate : CallFault::Call::kOpen;
  COWL_RETURN_IF_ERROR(plan_.BeforeCall(call, name));
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<File> inner, inner_.Open(name, mode));
  COWL_ASSIGN_OR_RETURN(const uint64_t size_bytes, inner->SizeBytes());
  plan_.NoteFile(name, size_bytes);
  return std::make_unique<FaultyFile>(name, std::move(inner), plan_);
}

absl::Status FaultyStorage::Remove(const std::string& name) {
  COWL_RETURN_IF_ERROR(plan_.BeforeCall(CallFault::Call::kRemove, name));
  COWL_RETURN_IF_ERROR(inner_.Remove(name));
  plan_.NoteRemoved(name);
  return absl::OkStatus();
}

absl::Status FaultyStorage::Rename(const std::string& from, const std::string& to) {
  COWL_RETURN_IF_ERROR(plan_.BeforeCall(CallFault::Call::kRename, to));
  COWL_RETURN_IF_ERROR(inner_.Rename(from, to));
  plan_.NoteRenamed(from, to);
  return absl::OkStatus();
}

absl::Status FaultyStorage::SyncDirectory(const std::string& folder) {
  COWL_RETURN_IF_ERROR(plan_.BeforeCall(CallFault::Call::kSyncDirectory, folder));
  return inner_.SyncDirectory(folder);
}

}  // namespace cowl
