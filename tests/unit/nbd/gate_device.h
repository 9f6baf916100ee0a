// gate_device.h: a disk in memory whose requests wait at a gate, and that fails when told to: for
// what happens while requests are under way.
#pragma once

#include <atomic>

#include "base/status.h"
#include "device/memory_device.h"
#include "io/loop.h"

namespace cowl {

class GateDevice : public BlockDevice {
 public:
  explicit GateDevice(uint64_t size_bytes) : memory_(size_bytes) {}

  // Before it is served, or by way of its loop.
  void CloseGate() { is_open_ = false; }
  void OpenGate() {
    is_open_ = true;
    at_gate_.WakeAll();
  }
  void FailWith(absl::Status failure, uint64_t from_bytes = 0) {
    failure_ = std::move(failure);
    fails_from_bytes_ = from_bytes;
  }
  // Requests before this offset pass the gate even when it is closed.
  void LetPassBelow(uint64_t offset_bytes) { passes_below_bytes_ = offset_bytes; }

  // The loop that the device belongs to, for stray_count.
  void LiveOn(const Loop& loop) { loop_ = &loop; }

  // Any thread.
  int stray_count() const { return stray_count_; }  // questions that came from elsewhere
  int waiting_count() const { return waiting_count_; }
  int flush_count() const { return flush_count_; }
  uint64_t fua_count() const { return fua_count_; }
  MemoryDevice& memory() { return memory_; }

  uint64_t size_bytes() const override {
    NoteWhereAsked();
    return memory_.size_bytes();
  }
  bool read_only() const override {
    NoteWhereAsked();
    return false;
  }

  Task<absl::Status> Read(uint64_t offset_bytes, std::span<std::byte> into) override {
    COWL_CO_RETURN_IF_ERROR(co_await Pass(offset_bytes));
    co_return co_await memory_.Read(offset_bytes, into);
  }
  Task<absl::Status> Write(uint64_t offset_bytes, std::span<const std::byte> from,
                           WriteOptions options) override {
    if (options.fua) ++fua_count_;
    COWL_CO_RETURN_IF_ERROR(co_await Pass(offset_bytes));
    co_return co_await memory_.Write(offset_bytes, from, options);
  }
  Task<absl::Status> Flush() override {
    ++flush_count_;
    co_return co_await Pass(0);
  }
  Task<absl::Status> Discard(uint64_t offset_bytes, uint64_t length_bytes,
                             WriteOptions options) override {
    if (options.fua) ++fua_count_;
    COWL_CO_RETURN_IF_ERROR(co_await Pass(offset_bytes));
    co_return co_await memory_.Discard(offset_bytes, length_bytes, options);
  }
  Task<absl::Status> WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                 ZeroOptions options) override {
    if (options.fua) ++fua_count_;
    if (options.fast_only) co_return Unimplemented("not faster than writing zeros");
    COWL_CO_RETURN_IF_ERROR(co_await Pass(offset_bytes));
    co_return co_await memory_.WriteZeroes(offset_bytes, length_bytes, options);
  }
  Task<absl::Status> Prefetch(uint64_t offset_bytes, uint64_t length_bytes) override {
    COWL_CO_RETURN_IF_ERROR(co_await Pass(offset_bytes));
    co_return co_await memory_.Prefetch(offset_bytes, length_bytes);
  }
  absl::StatusOr<std::vector<MapExtent>> Map(uint64_t offset_bytes, uint64_t length_bytes,
                                             size_t extents_max) override {
    if (!failure_.ok()) return failure_;
    return memory_.Map(offset_bytes, length_bytes, extents_max);
  }

 private:
  void NoteWhereAsked() const {
    if (loop_ != nullptr && !loop_->OnLoop()) ++stray_count_;
  }
  Task<absl::Status> Pass(uint64_t offset_bytes) {
    if (!is_open_ && offset_bytes >= passes_below_bytes_) {
      ++waiting_count_;
      co_await at_gate_.Wait();
      --waiting_count_;
    }
    co_return offset_bytes >= fails_from_bytes_ ? failure_ : absl::OkStatus();
  }

  MemoryDevice memory_;
  const Loop* loop_ = nullptr;
  mutable std::atomic<int> stray_count_{0};
  bool is_open_ = true;
  uint64_t passes_below_bytes_ = 0;
  absl::Status failure_;
  uint64_t fails_from_bytes_ = 0;
  WaitQueue at_gate_;
  std::atomic<int> waiting_count_{0};
  std::atomic<int> flush_count_{0};
  std::atomic<uint64_t> fua_count_{0};
};

}  // namespace cowl
