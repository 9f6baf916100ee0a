// cowl/device.h: a disk of a store, for a program that embeds the engine: blocking reads and
// writes, no NBD.
//
// Units: bytes, any alignment, within [0, size_bytes()). Threads: any; requests of several threads
// run side by side. Ownership: keeps the device open (and in use) until destroyed; the Store must
// outlive it. Errors: absl::Status. ResourceExhausted: disk full, or the device's cap is reached.
// DataLoss: a block failed its checksum. PermissionDenied: an image, or a device that turned
// read-only. Durability: an answered write survives this process; after Flush, or with `fua`, it
// survives the machine.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

class Store;

class Device {
 public:
  // `name`: a device, or an image (NAME or NAME:TAG), which is read-only.
  static absl::StatusOr<std::unique_ptr<Device>> Open(Store& store, const std::string& name);
  virtual ~Device() = default;

  virtual uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;
  virtual absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) = 0;
  virtual absl::Status Write(uint64_t offset_bytes, std::span<const std::byte> from,
                             bool fua = false) = 0;
  virtual absl::Status Flush() = 0;
  // Whole blocks of 4 KiB inside the range read as zeros afterwards; their space is given back.
  virtual absl::Status Discard(uint64_t offset_bytes, uint64_t length_bytes) = 0;
  // Every byte of the range reads as zero afterwards.
  virtual absl::Status WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes) = 0;
};

}  // namespace cowl
