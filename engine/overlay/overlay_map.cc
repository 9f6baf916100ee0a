#include "overlay/overlay_map.h"

namespace cowl {

void OverlayMap::Apply(const JournalRecord& record, std::vector<SlotRun>* replaced) {
  if (record.type == JournalRecord::Type::kZero) {
    SetRange({record.start, record.blocks, Segment::Kind::kZero}, replaced);
    return;
  }
  if (record.type != JournalRecord::Type::kWrite) return;
  uint64_t block = record.start;
  size_t sum = 0;
  for (const SlotRun& run : record.runs) {
    SetRange({block, run.blocks, Segment::Kind::kData, 0, run.physical}, replaced);
    for (uint64_t i = 0; i < run.blocks; ++i) recent_.sums[run.physical + i] = record.sums[sum++];
    block += run.blocks;
  }
}

void OverlayMap::SetRange(const Segment& segment, std::vector<SlotRun>* replaced) {
  VisitRange(segment.start, segment.end(), [&](const Segment& old) {
    if (old.kind != Segment::Kind::kData) return;
    replaced->push_back({old.physical, old.length});
    stored_blocks_ -= old.length;
  });
  recent_.runs.Set(segment);
  if (segment.kind == Segment::Kind::kData) stored_blocks_ += segment.length;
}

std::optional<uint64_t> OverlayMap::RecentSum(uint64_t physical) const {
  if (const auto found = recent_.sums.find(physical); found != recent_.sums.end())
    return found->second;
  if (frozen_ == nullptr) return std::nullopt;
  if (const auto found = frozen_->sums.find(physical); found != frozen_->sums.end())
    return found->second;
  return std::nullopt;
}

std::shared_ptr<const OverlayMap::Frozen> OverlayMap::Freeze() {
  auto frozen = std::make_shared<Frozen>();
  if (frozen_ == nullptr) {
    *frozen = std::move(recent_);
  } else {
    *frozen = *frozen_;
    recent_.runs.ForEach([&](const Segment& segment) { frozen->runs.Set(segment); });
    for (const auto& [physical, sum] : recent_.sums) frozen->sums[physical] = sum;
  }
  recent_ = {};
  frozen_ = frozen;
  return frozen;
}

void OverlayMap::Install(std::shared_ptr<const ExtentArray> base) {
  base_ = std::move(base);
  frozen_ = nullptr;
}

uint64_t OverlayMap::StoredIn(uint64_t begin, uint64_t end) const {
  uint64_t blocks = 0;
  VisitRange(begin, end, [&](const Segment& segment) {
    if (segment.kind == Segment::Kind::kData) blocks += segment.length;
  });
  return blocks;
}

}  // namespace cowl
