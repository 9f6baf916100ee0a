#include "overlay/slot_allocator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "format/extent.h"

namespace cowl {
namespace {

std::vector<std::pair<uint64_t, uint64_t>> Ranges(const BlockSet& set) {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  set.ForEach([&](const SlotRun& run) { ranges.emplace_back(run.physical, run.blocks); });
  return ranges;
}

TEST(BlockSet, AgreesWithASetOfBlocks) {
  std::mt19937_64 random(1);
  BlockSet set;
  std::set<uint64_t> model;
  for (int step = 0; step < 20'000; ++step) {
    const SlotRun run{random() % 200, 1 + random() % 12};
    std::vector<SlotRun> members;
    std::vector<SlotRun> others;
    set.Split(run, [&](const SlotRun& piece, bool is_member) {
      (is_member ? members : others).push_back(piece);
    });
    uint64_t covered = 0;
    for (const SlotRun& piece : members) {
      for (uint64_t i = 0; i < piece.blocks; ++i) ASSERT_TRUE(model.contains(piece.physical + i));
      covered += piece.blocks;
    }
    for (const SlotRun& piece : others) {
      for (uint64_t i = 0; i < piece.blocks; ++i) ASSERT_FALSE(model.contains(piece.physical + i));
      covered += piece.blocks;
    }
    ASSERT_EQ(covered, run.blocks);
    if (random() % 2 == 0) {
      for (const SlotRun& piece : others) {
        set.Add(piece);
        for (uint64_t i = 0; i < piece.blocks; ++i) model.insert(piece.physical + i);
      }
    } else {
      for (const SlotRun& piece : members) {
        set.Remove(piece);
        for (uint64_t i = 0; i < piece.blocks; ++i) model.erase(piece.physical + i);
      }
    }
    if (random() % 8 == 0) {
      const SlotRun taken = random() % 2 == 0 ? set.TakeFrom(random() % 200, 1 + random() % 5)
                                              : set.TakeContiguous(1 + random() % 5);
      for (uint64_t i = 0; i < taken.blocks; ++i) ASSERT_EQ(model.erase(taken.physical + i), 1u);
    }
    ASSERT_EQ(set.blocks(), model.size());
    ASSERT_EQ(set.empty(), model.empty());
  }
  // Neighbours are one range.
  uint64_t last_end = 0;
  for (const auto& [begin, blocks] : Ranges(set)) {
    EXPECT_GT(begin, last_end == 0 ? 0 : last_end);
    last_end = begin + blocks;
  }
}

TEST(BlockSet, TakesInOrderFromACursorAndAroundTheEnd) {
  BlockSet set;
  set.Add({10, 5});
  set.Add({30, 5});
  EXPECT_EQ(set.TakeFrom(12, 2), (SlotRun{12, 2}));
  EXPECT_EQ(set.TakeFrom(14, 9), (SlotRun{14, 1}));
  EXPECT_EQ(set.TakeFrom(20, 3), (SlotRun{30, 3}));
  EXPECT_EQ(set.TakeFrom(40, 9), (SlotRun{10, 2}));
  EXPECT_EQ(set.TakeContiguous(3), SlotRun{});
  EXPECT_EQ(set.TakeContiguous(2), (SlotRun{33, 2}));
  EXPECT_TRUE(set.empty());
  EXPECT_EQ(set.TakeFrom(0, 1), SlotRun{});
}

// The rule itself, slot by slot, kept the plain way.
class AllocatorModel {
 public:
  explicit AllocatorModel(uint64_t first) : allocator_(first), first_(first) {}

  void Step(std::mt19937_64& random) {
    const uint64_t dice = random() % 100;
    if (dice < 40) return Take(random);
    if (dice < 65) return Retire(random);
    if (dice < 70) return ReturnUnused(random);
    if (dice < 80) return BeginOrEndSync();
    if (dice < 90) return EnterRead();
    if (dice < 99) return LeaveRead(random);
    Punch();
  }

  // All that is given up comes back in the end.
  void Drain() {
    while (!reads_.empty()) LeaveOldest(0);
    for (int i = 0; i < 3; ++i) BeginOrEndSync();
    if (syncing_) BeginOrEndSync();
    const uint64_t live = live_.size();
    uint64_t taken = 0;
    while (allocator_.tail() == tail_now() && taken < 100'000) {
      const SlotRun run = allocator_.Take(1);
      if (run.physical >= tail_before_) break;
      ++taken;
    }
    EXPECT_EQ(taken + live, tail_before_ - first_);
  }
  void NoteTail() { tail_before_ = allocator_.tail(); }

 private:
  struct Slot {
    uint64_t taken_in_epoch;  // number of syncs that had begun
  };
  struct Given {
    uint64_t needs_sync;  // the sync (by number) that must have ended; 0: none
    std::set<uint64_t> reads;
  };

  uint64_t tail_now() const { return allocator_.tail(); }

  SlotRun TakeSome(std::mt19937_64& random) {
    const uint64_t dice = random() % 8;
    if (dice < 2) return allocator_.TakeContiguous(1 + random() % 6);
    if (dice == 2) return allocator_.TakeLong(1 + random() % 40);
    return allocator_.Take(1 + random() % 6);
  }

  void Take(std::mt19937_64& random) {
    const SlotRun run = TakeSome(random);
    ASSERT_GE(run.blocks, 1u);
    for (uint64_t i = 0; i < run.blocks; ++i) {
      const uint64_t slot = run.physical + i;
      ASSERT_GE(slot, first_);
      ASSERT_FALSE(live_.contains(slot)) << "taken twice";
      if (const auto given = given_.find(slot); given != given_.end()) {
        ASSERT_LE(given->second.needs_sync, syncs_ended_)
            << "a slot that the last durable point needs";
        for (const uint64_t read : given->second.reads)
          ASSERT_FALSE(reads_.contains(read)) << "a slot that is being read";
        given_.erase(given);
      }
      live_[slot] = {syncs_begun_};
    }
  }
  SlotRun PickLive(std::mt19937_64& random) {
    if (live_.empty()) return {};
    auto it = live_.lower_bound(random() % (live_.rbegin()->first + 1));
    SlotRun run{it->first, 1};
    for (++it; it != live_.end() && it->first == run.physical + run.blocks &&
               run.blocks < 1 + random() % 6;
         ++it)
      ++run.blocks;
    return run;
  }
  void Retire(std::mt19937_64& random) {
    const SlotRun run = PickLive(random);
    if (run.blocks == 0) return;
    allocator_.Retire(run);
    for (uint64_t i = 0; i < run.blocks; ++i) {
      const bool born_since_sync = live_[run.physical + i].taken_in_epoch == syncs_begun_;
      // A sync that begins after this moment has the next number.
      given_[run.physical + i] = {born_since_sync ? 0 : syncs_begun_ + 1, reads_};
      live_.erase(run.physical + i);
    }
  }
  void ReturnUnused(std::mt19937_64& random) {
    const SlotRun run = PickLive(random);
    if (run.blocks == 0) return;
    allocator_.Return(run);
    for (uint64_t i = 0; i < run.blocks; ++i) live_.erase(run.physical + i);
  }
  void BeginOrEndSync() {
    if (syncing_) {
      allocator_.EndSync(true);
      ++syncs_ended_;
    } else {
      allocator_.BeginSync();
      ++syncs_begun_;
    }
    syncing_ = !syncing_;
  }
  void EnterRead() {
    const uint64_t id = next_read_++;
    tickets_[id] = allocator_.EnterRead();
    reads_.insert(id);
  }
  void LeaveRead(std::mt19937_64& random) {
    if (!reads_.empty()) LeaveOldest(random() % reads_.size());
  }
  void LeaveOldest(size_t index) {
    const uint64_t id = *std::next(reads_.begin(), static_cast<ptrdiff_t>(index));
    reads_.erase(id);
    allocator_.LeaveRead(tickets_[id]);
  }
  void Punch() {
    const SlotRun run = allocator_.TakeForPunch(4);
    for (uint64_t i = 0; i < run.blocks; ++i) {
      const auto given = given_.find(run.physical + i);
      if (given != given_.end()) {
        ASSERT_LE(given->second.needs_sync, syncs_ended_);
      }
      ASSERT_FALSE(live_.contains(run.physical + i));
    }
    if (run.blocks != 0) allocator_.AddHollow(run);
  }

  SlotAllocator allocator_;
  const uint64_t first_;
  uint64_t tail_before_ = 0;
  std::map<uint64_t, Slot> live_;
  std::map<uint64_t, Given> given_;
  uint64_t syncs_begun_ = 0;
  uint64_t syncs_ended_ = 0;
  bool syncing_ = false;
  uint64_t next_read_ = 1;
  std::set<uint64_t> reads_;
  std::map<uint64_t, uint64_t> tickets_;
};

TEST(SlotAllocator, KeepsTheRule) {
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::mt19937_64 random(seed);
    AllocatorModel model(2);
    for (int step = 0; step < 3000 && !testing::Test::HasFailure(); ++step) model.Step(random);
    model.NoteTail();
    model.Drain();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
  }
}

TEST(SlotAllocator, BornAndReplacedWithinAnEpochIsFreeAtOnce) {
  SlotAllocator slots(2);
  const SlotRun run = slots.Take(3);
  EXPECT_EQ(run, (SlotRun{2, 3}));
  slots.Retire(run);
  EXPECT_EQ(slots.pinned_blocks(), 0u);
  EXPECT_EQ(slots.Take(3), run);
}

TEST(SlotAllocator, LiveAtTheLastSyncWaitsForTheNextOne) {
  SlotAllocator slots(2);
  const SlotRun run = slots.Take(3);
  slots.BeginSync();
  slots.Retire(run);  // while the sync runs: it may not cover the replacement's record
  slots.EndSync(true);
  EXPECT_EQ(slots.Take(1), (SlotRun{5, 1}));
  slots.BeginSync();
  slots.EndSync(true);
  EXPECT_EQ(slots.TakeContiguous(3), run);
}

TEST(SlotAllocator, LongWritesPassOverPieces) {
  constexpr uint64_t kLong = BlockSet::kLongBlocks;
  SlotAllocator slots(1000);
  slots.AddFree({10, 2});
  slots.AddFree({20, kLong});
  slots.AddFree({100, 3 * kLong});
  slots.AddHollow({200, 8 * kLong});
  // The shortest that has them all, and on from there.
  EXPECT_EQ(slots.TakeLong(2 * kLong), (SlotRun{100, 2 * kLong}));
  EXPECT_EQ(slots.TakeLong(2 * kLong), (SlotRun{100 + 2 * kLong, kLong}));
  EXPECT_EQ(slots.TakeLong(2 * kLong), (SlotRun{20, kLong}));
  EXPECT_EQ(slots.TakeLong(4 * kLong), (SlotRun{200, 4 * kLong}));
  EXPECT_EQ(slots.TakeLong(4 * kLong), (SlotRun{200 + 4 * kLong, 4 * kLong}));
  EXPECT_EQ(slots.TakeLong(kLong), (SlotRun{1000, kLong}));
  // A short one takes the piece.
  EXPECT_EQ(slots.TakeLong(1), (SlotRun{10, 1}));
}

TEST(SlotAllocator, AFailedSyncFreesNothing) {
  SlotAllocator slots(2);
  const SlotRun run = slots.Take(3);
  slots.BeginSync();
  slots.EndSync(true);
  slots.Retire(run);
  slots.BeginSync();
  slots.EndSync(false);
  slots.BeginSync();
  slots.EndSync(true);
  EXPECT_EQ(slots.Take(3), (SlotRun{5, 3}));
}

TEST(SlotAllocator, ReadsKeepWhatTheyLookedUp) {
  SlotAllocator slots(2);
  const SlotRun run = slots.Take(1);
  const uint64_t early = slots.EnterRead();
  slots.Retire(run);
  const uint64_t late = slots.EnterRead();  // looked up after: does not hold it
  EXPECT_EQ(slots.Take(1), (SlotRun{3, 1}));
  slots.LeaveRead(early);
  EXPECT_EQ(slots.Take(1), run);
  slots.LeaveRead(late);
}

TEST(SlotAllocator, FreedSpaceFirstThenPunchedThenTheEnd) {
  SlotAllocator slots(10);
  slots.AddFree({2, 2});
  slots.AddHollow({6, 2});
  EXPECT_EQ(slots.backed_free_blocks(), 2u);
  EXPECT_EQ(slots.Take(9), (SlotRun{2, 2}));
  EXPECT_EQ(slots.Take(9), (SlotRun{6, 2}));
  EXPECT_EQ(slots.Take(9), (SlotRun{10, 9}));
}

TEST(SlotAllocator, GivesNothingThatAnExtentCannotName) {
  SlotAllocator slots(Extent::kPhysicalLimit - 3);
  EXPECT_EQ(slots.Take(4).blocks, 0u);
  EXPECT_EQ(slots.TakeContiguous(4).blocks, 0u);
  EXPECT_EQ(slots.Take(2), (SlotRun{Extent::kPhysicalLimit - 3, 2}));
  EXPECT_EQ(slots.TakeContiguous(1), (SlotRun{Extent::kPhysicalLimit - 1, 1}));
  EXPECT_EQ(slots.Take(1).blocks, 0u);
}

}  // namespace
}  // namespace cowl
