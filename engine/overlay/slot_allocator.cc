#include "overlay/slot_allocator.h"

#include "base/status.h"
#include "format/extent.h"

namespace cowl {

void BlockSet::Insert(uint64_t begin, uint64_t end) {
  ranges_.emplace(begin, end);
  if (end - begin >= kLongBlocks) long_.insert({end - begin, begin});
}

void BlockSet::Erase(absl::btree_map<uint64_t, uint64_t>::iterator at) {
  const auto [begin, end] = *at;
  if (end - begin >= kLongBlocks) long_.erase({end - begin, begin});
  ranges_.erase(at);
}

void BlockSet::Add(const SlotRun& run) {
  if (run.blocks == 0) return;
  uint64_t begin = run.physical;
  uint64_t end = begin + run.blocks;
  blocks_ += run.blocks;
  const auto next = ranges_.lower_bound(begin);
  const bool has_before = next != ranges_.begin();
  COWL_CHECK(next == ranges_.end() || next->first >= end);
  COWL_CHECK(!has_before || std::prev(next)->second <= begin);
  const bool joins_next = next != ranges_.end() && next->first == end;
  const bool joins_before = has_before && std::prev(next)->second == begin;
  if (joins_next) end = next->second;
  if (joins_before) begin = std::prev(next)->first;
  if (joins_next) Erase(next);
  if (joins_before) Erase(ranges_.find(begin));
  Insert(begin, end);
}

void BlockSet::Remove(const SlotRun& run) {
  const uint64_t end = run.physical + run.blocks;
  auto it = ranges_.upper_bound(run.physical);
  COWL_CHECK(it != ranges_.begin());
  --it;
  const auto [range_begin, range_end] = *it;
  COWL_CHECK(range_begin <= run.physical && end <= range_end);
  Erase(it);
  if (range_begin < run.physical) Insert(range_begin, run.physical);
  if (end < range_end) Insert(end, range_end);
  blocks_ -= run.blocks;
}

void BlockSet::Clear() { *this = {}; }

SlotRun BlockSet::TakeFrom(uint64_t from, uint64_t blocks) {
  if (ranges_.empty()) return {};
  auto it = ranges_.upper_bound(from);
  if (it != ranges_.begin() && std::prev(it)->second > from) --it;
  if (it == ranges_.end()) it = ranges_.begin();
  const uint64_t begin = it->first <= from && from < it->second ? from : it->first;
  const SlotRun run{begin, std::min(blocks, it->second - begin)};
  Remove(run);
  return run;
}

SlotRun BlockSet::TakeFront(uint64_t begin, uint64_t blocks) {
  const SlotRun run{begin, std::min(blocks, ranges_.find(begin)->second - begin)};
  Remove(run);
  return run;
}

SlotRun BlockSet::TakeLong(uint64_t from, uint64_t blocks) {
  if (long_.empty()) return {};
  if (const auto at = ranges_.find(from); at != ranges_.end() && at->second - from >= kLongBlocks) {
    return TakeFront(from, blocks);
  }
  const auto enough = long_.lower_bound({blocks, 0});
  return TakeFront(enough != long_.end() ? enough->second : std::prev(long_.end())->second, blocks);
}

SlotRun BlockSet::TakeContiguous(uint64_t blocks) {
  for (const auto& [begin, end] : ranges_) {
    if (end - begin < blocks) continue;
    const SlotRun run{begin, blocks};
    Remove(run);
    return run;
  }
  return {};
}

// Numbers beyond the limit do not fit into an extent.
SlotRun SlotAllocator::Grow(uint64_t blocks) {
  if (tail_ > Extent::kPhysicalLimit || blocks > Extent::kPhysicalLimit - tail_) return {};
  const SlotRun run{tail_, blocks};
  tail_ += blocks;
  return run;
}

SlotRun SlotAllocator::Take(uint64_t blocks) {
  SlotRun run = free_.TakeFrom(cursor_, blocks);
  if (run.blocks == 0) run = hollow_.TakeFrom(cursor_, blocks);
  return Taken(run.blocks == 0 ? Grow(blocks) : run);
}

SlotRun SlotAllocator::TakeLong(uint64_t blocks) {
  if (blocks < BlockSet::kLongBlocks) return Take(blocks);
  SlotRun run = free_.TakeLong(cursor_, blocks);
  if (run.blocks == 0) run = hollow_.TakeLong(cursor_, blocks);
  if (run.blocks == 0) run = Grow(blocks);
  return run.blocks == 0 ? Take(blocks) : Taken(run);
}

SlotRun SlotAllocator::Taken(const SlotRun& run) {
  if (run.blocks == 0) return run;
  cursor_ = run.physical + run.blocks;
  born_.Add(run);
  return run;
}

SlotRun SlotAllocator::TakeContiguous(uint64_t blocks) {
  SlotRun run = free_.TakeContiguous(blocks);
  if (run.blocks == 0) run = hollow_.TakeContiguous(blocks);
  if (run.blocks == 0) run = Grow(blocks);
  born_.Add(run);
  return run;
}

void SlotAllocator::ForgetBirth(const SlotRun& run) {
  std::vector<SlotRun> born;
  born_.Split(run, [&](const SlotRun& piece, bool is_born) {
    if (is_born) born.push_back(piece);
  });
  for (const SlotRun& piece : born) born_.Remove(piece);
}

void SlotAllocator::Return(const SlotRun& run) {
  ForgetBirth(run);
  free_.Add(run);
}

void SlotAllocator::ReturnHollow(const SlotRun& run) {
  ForgetBirth(run);
  hollow_.Add(run);
}

void SlotAllocator::Retire(const SlotRun& run) {
  std::vector<SlotRun> born;
  born_.Split(run, [&](const SlotRun& piece, bool is_born) {
    if (is_born) {
      born.push_back(piece);
    } else {
      pinned_.Add(piece);
    }
  });
  for (const SlotRun& piece : born) {
    born_.Remove(piece);
    ReleaseAfterReads(piece);
  }
}

void SlotAllocator::Pin(const SlotRun& run) { pinned_.Add(run); }

void SlotAllocator::BeginSync() {
  COWL_CHECK(syncing_.empty());
  syncing_ = std::move(pinned_);
  pinned_ = {};
  born_.Clear();
}

void SlotAllocator::EndSync(bool succeeded) {
  BlockSet synced = std::move(syncing_);
  syncing_ = {};
  // After a sync that failed nobody knows whether the replacements are durable: those slots are
  // never touched again.
  if (!succeeded) return;
  synced.ForEach([this](const SlotRun& run) { ReleaseAfterReads(run); });
}

uint64_t SlotAllocator::EnterRead() {
  if (generations_.back().closed) generations_.emplace_back();
  ++generations_.back().readers;
  return first_generation_ + generations_.size() - 1;
}

void SlotAllocator::LeaveRead(uint64_t ticket) {
  ReadGeneration& generation = generations_[ticket - first_generation_];
  COWL_CHECK(generation.readers > 0);
  --generation.readers;
  PopDrained();
}

void SlotAllocator::ReleaseAfterReads(const SlotRun& run) {
  const bool idle = generations_.size() == 1 && generations_.back().readers == 0;
  if (idle) {
    free_.Add(run);
    return;
  }
  generations_.back().closed = true;
  generations_.back().waiting.push_back(run);
}

// Generations end in the order they began: a run waits for every read that was under way when it
// was given up.
void SlotAllocator::PopDrained() {
  while (generations_.front().readers == 0 && generations_.front().closed) {
    for (const SlotRun& run : generations_.front().waiting) free_.Add(run);
    generations_.pop_front();
    ++first_generation_;
    if (generations_.empty()) generations_.emplace_back();
  }
}

SlotRun SlotAllocator::TakeForPunch(uint64_t blocks) { return free_.TakeFrom(0, blocks); }

}  // namespace cowl
