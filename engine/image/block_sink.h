// block_sink.h: where an import puts the blocks of a disk.
// Units: blocks of 4,096 bytes. Order: any; a block written twice keeps the last content; what is
// never written reads as zeros. Threads: one at a time; calls block. Errors: absl::Status with
// operation and path; after one, only destroying the sink makes sense. Durability: none before
// Finish has returned OK.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

struct SinkSummary {
  std::string layer_id;
  uint64_t stored_bytes = 0;
};

class BlockSink {
 public:
  virtual ~BlockSink() = default;

  virtual uint64_t size_bytes() const = 0;
  // `data` is a multiple of a block long; the last block of a disk of odd size is padded with zeros
  // by the caller.
  virtual absl::Status Write(uint64_t block, std::span<const std::byte> data) = 0;
  // Every block of [begin, end) reads as zeros, whatever a layer below holds.
  virtual absl::Status Zero(uint64_t begin_block, uint64_t end_block) = 0;
  // Makes it all durable. Called once, last.
  virtual absl::StatusOr<SinkSummary> Finish() = 0;
};

}  // namespace cowl
