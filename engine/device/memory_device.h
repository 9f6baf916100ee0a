// memory_device.h: a disk in memory: with the NBD server it is a complete test rig, and the ceiling
// of its benchmarks. Units, threads, errors: as BlockDevice. Durability: none; Flush counts itself
// and does nothing.
#pragma once

#include <vector>

#include "device/block_device.h"

namespace cowl {

class MemoryDevice : public BlockDevice {
 public:
  explicit MemoryDevice(uint64_t size_bytes, bool read_only = false)
      : bytes_(size_bytes), read_only_(read_only) {}

  uint64_t size_bytes() const override { return bytes_.size(); }
  bool read_only() const override { return read_only_; }
  Task<absl::Status> Read(uint64_t offset_bytes, std::span<std::byte> into) override;
  Task<absl::Status> Write(uint64_t offset_bytes, std::span<const std::byte> from,
                           WriteOptions options) override;
  Task<absl::Status> Flush() override;
  Task<absl::Status> Discard(uint64_t offset_bytes, uint64_t length_bytes,
                             WriteOptions options) override;
  Task<absl::Status> WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                 ZeroOptions options) override;
  Task<absl::Status> Prefetch(uint64_t offset_bytes, uint64_t length_bytes) override;
  absl::StatusOr<std::vector<MapExtent>> Map(uint64_t offset_bytes, uint64_t length_bytes,
                                             size_t extents_max) override;

  std::vector<std::byte>& bytes() { return bytes_; }
  uint64_t flush_count() const { return flush_count_; }

 private:
  std::vector<std::byte> bytes_;
  const bool read_only_;
  uint64_t flush_count_ = 0;
};

}  // namespace cowl
