// layer_writer.h: makes a layer file block by block: what import, flatten and export --parent write
// into. Units: blocks of 4,096 bytes. Order: any; a block written twice keeps the last content.
// Blocks that are all zero are stored as zero extents (or not at all where there is no parent to
// hide), never as data. Threads: one loop. Ownership: the writer owns the file until Finish; a
// writer destroyed before leaves a file that nobody can open as a layer, for the caller to remove.
// Errors: those of the file; after one, only destroying the writer makes sense. Durability: none
// before Finish has returned OK.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/uuid.h"
#include "io/file.h"
#include "io/task.h"

namespace cowl {

struct LayerWriterOptions {
  uint64_t size_bytes = 0;  // of the disk this layer is the top of; any multiple of 512
  Uuid parent;              // nil: the lowest layer
  std::string created_by;   // shown by `history`, at most 200 bytes are kept
};

struct LayerSummary {
  Uuid id;
  uint64_t stored_bytes = 0;
};

class LayerWriter {
 public:
  // Creates `name` in `storage`; AlreadyExists when it is there.
  static absl::StatusOr<std::unique_ptr<LayerWriter>> Create(Storage& storage,
                                                             const std::string& name,
                                                             const LayerWriterOptions& options);
  virtual ~LayerWriter() = default;

  // `data` is a multiple of a block long. Best in runs of 64 KiB to 1 MiB.
  virtual Task<absl::Status> Write(uint64_t block, std::span<const std::byte> data) = 0;
  // Hides what the parent has in [begin, end).
  virtual Task<absl::Status> Zero(uint64_t begin_block, uint64_t end_block) = 0;
  // Reads back a block written before (import of formats that modify their own metadata); zeros
  // where nothing was written.
  virtual Task<absl::Status> Read(uint64_t block, std::span<std::byte> into) = 0;
  // Writes map and checksums, syncs, writes the superblock, syncs.
  virtual Task<absl::StatusOr<LayerSummary>> Finish() = 0;
};

}  // namespace cowl
