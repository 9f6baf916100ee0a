// frozen_chain.h: a chain of immutable layers opened as a read-only disk, without a store: what
// export reads. Threads: one loop. Ownership: keeps its own descriptors, so a layer that is deleted
// meanwhile stays readable. Errors: as BlockDevice; opening validates every layer file and that
// each names the next as its parent.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "device/block_device.h"
#include "io/file.h"
#include "io/task.h"

namespace cowl {

// `layer_names`: files of `storage`, top first. `size_bytes`: of the disk; at least the top
// layer's, the rest reads as zeros.
Task<absl::StatusOr<std::unique_ptr<BlockDevice>>> OpenFrozenChain(
    Storage& storage, std::vector<std::string> layer_names, uint64_t size_bytes);

}  // namespace cowl
