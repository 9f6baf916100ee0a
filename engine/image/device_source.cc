#include "image/device_source.h"

#include "base/status.h"

namespace cowl {
namespace {

constexpr size_t kExtentsMax = 4096;

Task<absl::StatusOr<std::vector<MapExtent>>> MapOn(BlockDevice* device, uint64_t offset_bytes,
                                                   uint64_t length_bytes) {
  co_return device->Map(offset_bytes, length_bytes, kExtentsMax);
}

Task<absl::Status> Drop(std::unique_ptr<BlockDevice> device) {
  device.reset();
  co_return absl::OkStatus();
}

}  // namespace

DeviceSource::~DeviceSource() { RunOn(loop_, Drop(std::move(device_))).IgnoreError(); }

absl::Status DeviceSource::Refill(uint64_t offset_bytes) {
  const uint64_t rest = size_bytes_ - offset_bytes;
  COWL_ASSIGN_OR_RETURN(const std::vector<MapExtent> extents,
                        RunOn(loop_, MapOn(device_.get(), offset_bytes, rest)));
  runs_.clear();
  at_ = 0;
  for (const MapExtent& extent : extents) {
    if (!runs_.empty() && runs_.back().type == extent.type) {
      runs_.back().length_bytes += extent.length_bytes;
    } else {
      runs_.push_back(extent);
    }
  }
  if (runs_.empty()) return Internal("a disk gave an empty map");
  return absl::OkStatus();
}

absl::StatusOr<SourceRun> DeviceSource::Next(uint64_t offset_bytes) {
  if (runs_.empty() || offset_bytes < runs_[at_].offset_bytes) {
    COWL_RETURN_IF_ERROR(Refill(offset_bytes));
  }
  while (offset_bytes >= runs_[at_].offset_bytes + runs_[at_].length_bytes) {
    if (++at_ == runs_.size()) COWL_RETURN_IF_ERROR(Refill(offset_bytes));
  }
  const MapExtent& run = runs_[at_];
  return SourceRun{run.offset_bytes + run.length_bytes - offset_bytes,
                   run.type == MapExtent::Type::kZero};
}

}  // namespace cowl
