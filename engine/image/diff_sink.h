// diff_sink.h: passes on only what differs from a parent disk: what `import --parent` stores.
// What equals the parent is dropped; what is never written and is not zeros in the parent is zeroed
// at Finish, so that the layer on top of the parent reads exactly as the sink was told. Ownership:
// neither `inner` nor `parent` is owned; both must outlive it. Threads, errors: as BlockSink.
#pragma once

#include <vector>

#include "image/block_sink.h"
#include "image/block_source.h"
#include "image/interval_set.h"

namespace cowl {

class DiffSink : public BlockSink {
 public:
  // `parent` is at most as large as `inner`.
  DiffSink(BlockSink& inner, BlockSource& parent) : inner_(inner), parent_(parent) {}

  uint64_t size_bytes() const override { return inner_.size_bytes(); }
  absl::Status Write(uint64_t block, std::span<const std::byte> data) override;
  absl::Status Zero(uint64_t begin_block, uint64_t end_block) override;
  absl::StatusOr<SinkSummary> Finish() override;

 private:
  absl::Status ReadParent(uint64_t block, std::span<std::byte> into);
  absl::Status WriteRun(uint64_t block, std::span<const std::byte> data);
  // Zeroes in `inner` what the parent has in the range.
  absl::Status HideParent(uint64_t begin_block, uint64_t end_block);

  BlockSink& inner_;
  BlockSource& parent_;
  IntervalSet touched_;  // written by the caller, stored or not
  IntervalSet stored_;   // passed on to inner_; from then on every write of that block must be
  std::vector<std::byte> parent_buffer_;
};

}  // namespace cowl
