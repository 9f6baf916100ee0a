// command.h: the commands of the transmission phase, each as calls of a block device.
// Threads: the device's loop.
// Ownership: device and job outlive the task.
// Errors: a device's status becomes the job's reply; `failure` keeps it for the log.
// REQUIRES: the request was found valid (request_rules.h).
#pragma once

#include <span>
#include <vector>

#include "absl/status/status.h"
#include "device/block_device.h"
#include "io/task.h"
#include "nbd/codec.h"
#include "nbd/reply.h"
#include "nbd/request_rules.h"

namespace cowl::nbd {

// One request, from its arrival until its answer has been sent.
struct Job {
  Request request;
  bool more_follows = false;  // one part of a read: other jobs answer the rest of it
  uint32_t memory_bytes = 0;  // what it counts for in its client's budget
  // Of a write: where it lies, and who keeps it there.
  std::span<const std::byte> payload;
  BufferRef payload_owner;
  Reply reply;
  absl::Status failure;
};

// Does what the request asks and writes the reply.
Task<void> Execute(BlockDevice& device, const ExportFacts& facts, Job& job);

// The chunks that a structured read of the range is answered in: runs of zeros that are worth it as
// holes, all else as data. What the extents do not cover counts as data.
std::vector<Fragment> PlanFragments(uint64_t offset_bytes, uint32_t length_bytes,
                                    std::span<const MapExtent> extents);

// A shorter zero run, or a hole in a shorter read, is not worth a chunk of its own, or a look at
// the map.
inline constexpr uint32_t kHoleBytesMin = 4 * kKiB;
inline constexpr uint32_t kReadWithHolesBytesMin = 32 * kKiB;

// A part that is read, checked and sent while the CPU's cache holds it.
inline constexpr uint32_t kReadPartBytes = 256 * kKiB;

// How many bytes of a read, from its front, are answered on their own: all of them where the client
// wants one chunk or the read is short; a long hole in one piece.
uint32_t ReadPartBytes(BlockDevice& device, const ExportFacts& facts, const Request& request);

}  // namespace cowl::nbd
