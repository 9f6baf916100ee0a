// block_source.h: a disk that is read once from front to back: what an import or an export copies
// from. Units: bytes, any alignment, within [0, size_bytes). Threads: one at a time; calls block.
// Errors: absl::Status that names the source and the offset. A source that turns out shorter than
// it said is an error.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

// A run that begins where it was asked for. `zero` runs need not be read: they are zeros. `data`
// runs may hold zeros too.
struct SourceRun {
  uint64_t length_bytes = 0;
  bool zero = false;
};

class BlockSource {
 public:
  virtual ~BlockSource() = default;

  virtual uint64_t size_bytes() const = 0;
  // The run at `offset_bytes` (below the size): at least one byte, and never past the end.
  virtual absl::StatusOr<SourceRun> Next(uint64_t offset_bytes) = 0;
  virtual absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) = 0;
  // After the last read: is the source still what it said at the start?
  virtual absl::Status CheckUnchanged() { return absl::OkStatus(); }
};

}  // namespace cowl
