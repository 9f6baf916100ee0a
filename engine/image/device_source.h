// device_source.h: a block device (a frozen chain) as a source.
// Ownership: owns the device; `loop`, which the device belongs to, must outlive it. Threads: not
// the loop's own, unless nothing in it suspends. Errors: as BlockDevice.
#pragma once

#include <memory>
#include <vector>

#include "device/block_device.h"
#include "image/block_source.h"
#include "io/loop.h"

namespace cowl {

class DeviceSource : public BlockSource {
 public:
  DeviceSource(Loop& loop, std::unique_ptr<BlockDevice> device)
      : loop_(loop), device_(std::move(device)), size_bytes_(device_->size_bytes()) {}
  ~DeviceSource() override;

  uint64_t size_bytes() const override { return size_bytes_; }
  absl::StatusOr<SourceRun> Next(uint64_t offset_bytes) override;
  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) override {
    return RunOn(loop_, device_->Read(offset_bytes, into));
  }

 private:
  // Makes runs_ hold the run at `offset_bytes`.
  absl::Status Refill(uint64_t offset_bytes);

  Loop& loop_;
  std::unique_ptr<BlockDevice> device_;
  const uint64_t size_bytes_;
  std::vector<MapExtent> runs_;  // a stretch of the map, neighbours of one type merged
  size_t at_ = 0;                // where the last answer was: questions come in order
};

}  // namespace cowl
