// copy.h: from a source to a sink: holes are skipped, data is moved in runs of at most 1 MiB.
// Threads: the caller's. Errors: those of source and sink; Cancelled when `progress` says so.
#pragma once

#include <functional>
#include <span>

#include "absl/status/status.h"
#include "cowl/store.h"
#include "image/block_sink.h"
#include "image/block_source.h"

namespace cowl {

inline constexpr uint64_t kCopyRunBytes = 1 << 20;

// The sink may be larger than the source: the rest stays zeros. Does not call Finish.
absl::Status CopyBlocks(BlockSource& source, BlockSink& sink, const Progress& progress);

// Calls `write(at, data)` for each stretch of `run` between its blocks of zeros (4,096 bytes,
// counted from its beginning); `at` is where in the run it begins. Ends at the first error.
absl::Status ForEachDataRun(
    std::span<const std::byte> run,
    const std::function<absl::Status(size_t at, std::span<const std::byte> data)>& write);

// Calls `progress` when there is one; Cancelled when it says stop.
absl::Status Report(const Progress& progress, uint64_t done_bytes, uint64_t total_bytes);

}  // namespace cowl
