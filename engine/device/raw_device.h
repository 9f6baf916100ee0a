// raw_device.h: a disk that is a plain file: a volume. No copy-on-write, no checksums: it gives
// what its host file gives. Units, threads, errors: as BlockDevice. Ownership: owns the file, which
// is size_bytes long. Durability: as the file's: what was answered before a Flush began is durable
// once that has succeeded. After a sync that failed (the kernel marks such pages clean) the disk
// takes no more writes and says why.
#pragma once

#include <memory>

#include "device/block_device.h"
#include "device/traffic.h"
#include "io/file.h"

namespace cowl {

class RawDevice : public BlockDevice {
 public:
  RawDevice(std::unique_ptr<File> file, uint64_t size_bytes, bool read_only)
      : file_(std::move(file)), size_bytes_(size_bytes), read_only_(read_only) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  bool read_only() const override { return read_only_; }
  Task<absl::Status> Read(uint64_t offset_bytes, std::span<std::byte> into) override;
  Task<absl::Status> Write(uint64_t offset_bytes, std::span<const std::byte> from,
                           WriteOptions options) override;
  Task<absl::Status> Flush() override;
  // Gives whole blocks back to the host where its file system can.
  Task<absl::Status> Discard(uint64_t offset_bytes, uint64_t length_bytes,
                             WriteOptions options) override;
  Task<absl::Status> WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                 ZeroOptions options) override;
  Task<absl::Status> Prefetch(uint64_t offset_bytes, uint64_t length_bytes) override;
  // All of it is data: what the host has under it is its own business.
  absl::StatusOr<std::vector<MapExtent>> Map(uint64_t offset_bytes, uint64_t length_bytes,
                                             size_t extents_max) override;

  // The file is that long by now, or will be cut when nobody is beyond any more.
  void Resize(uint64_t size_bytes) { size_bytes_ = size_bytes; }

 private:
  absl::Status CheckRange(uint64_t offset_bytes, uint64_t length_bytes) const;
  absl::Status CheckWritable(uint64_t offset_bytes, uint64_t length_bytes) const;
  Task<absl::Status> Finish(bool fua);
  Task<absl::Status> FillWithZeros(uint64_t offset_bytes, uint64_t length_bytes);
  // Punches and makes sure that it reads as zeros; false: it may not.
  Task<absl::StatusOr<bool>> PunchToZero(uint64_t offset_bytes, uint64_t length_bytes);

  const std::unique_ptr<File> file_;
  uint64_t size_bytes_;
  const bool read_only_;
  // A file system without holes takes a punch and does nothing. Yes once a punch was seen to free
  // space.
  bool punch_is_known_to_work_ = false;
  Traffic traffic_;  // so that others see that this one is busy
  absl::Status sync_failure_;
};

}  // namespace cowl
