// overlay_map.h: what an overlay holds: three levels of map (written since the last freeze, frozen,
// checkpointed) and the checksums of blocks that no checkpoint has written yet. Freezing costs
// nothing whatever the size: the frozen level is merged and written elsewhere while the first takes
// new records. Units: blocks. Threads: one loop; what Freeze returned and base() may be read by a
// helper thread until Install.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "format/journal_record.h"
#include "layer/extent_array.h"
#include "layer/range_map.h"

namespace cowl {

using SumMap = absl::flat_hash_map<uint64_t, uint64_t>;  // physical block -> XXH3

class OverlayMap {
 public:
  OverlayMap() = default;
  OverlayMap(ExtentArray base, uint64_t stored_blocks)
      : base_(std::make_shared<const ExtentArray>(std::move(base))),
        stored_blocks_(stored_blocks) {}

  struct Frozen {
    RangeMap runs;
    SumMap sums;
  };

  // Applies a kWrite or kZero record; slots it replaces are appended to `replaced`.
  void Apply(const JournalRecord& record, std::vector<SlotRun>* replaced);

  // Calls visit(Segment) for every piece of [begin, end) in order; kAbsent where the overlay has
  // nothing.
  template <typename Visit>
  void VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const;

  // The checksum of a slot, where no checkpoint has written it yet.
  std::optional<uint64_t> RecentSum(uint64_t physical) const;

  // Everything so far becomes the frozen level. A frozen level that is still there (its checkpoint
  // failed) is taken along.
  std::shared_ptr<const Frozen> Freeze();
  // The frozen level has become part of `base`.
  void Install(std::shared_ptr<const ExtentArray> base);

  const std::shared_ptr<const ExtentArray>& base() const { return base_; }
  // Live data blocks.
  uint64_t stored_blocks() const { return stored_blocks_; }
  // Data blocks of [begin, end) that the overlay holds already.
  uint64_t StoredIn(uint64_t begin, uint64_t end) const;
  bool empty() const { return base_->empty() && recent_.runs.empty() && frozen_ == nullptr; }

 private:
  void SetRange(const Segment& segment, std::vector<SlotRun>* replaced);

  Frozen recent_;
  std::shared_ptr<const Frozen> frozen_;
  std::shared_ptr<const ExtentArray> base_ = std::make_shared<const ExtentArray>();
  uint64_t stored_blocks_ = 0;
};

template <typename Visit>
void OverlayMap::VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const {
  const auto visit_base = [&](const Segment& gap) {
    if (gap.kind != Segment::Kind::kAbsent || base_->empty()) {
      visit(gap);
    } else {
      base_->VisitRange(gap.start, gap.end(), visit);
    }
  };
  const auto visit_frozen = [&](const Segment& gap) {
    if (gap.kind != Segment::Kind::kAbsent || frozen_ == nullptr) {
      visit_base(gap);
    } else {
      frozen_->runs.VisitRange(gap.start, gap.end(), visit_base);
    }
  };
  recent_.runs.VisitRange(begin, end, visit_frozen);
}

}  // namespace cowl
