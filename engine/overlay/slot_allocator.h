// slot_allocator.h: which blocks of an overlay's file are free, and when a block that was given up
// may be used again. Units: blocks of the file. Threads: one loop. Errors: none; freeing what is
// free is a bug (CHECK).
//
// The rule that crash safety hangs on: a slot that was live at the last durable point stays
// untouched until a sync that was submitted after its replacement's record was written has
// completed, and until every read that looked it up has drained. A slot that was born and replaced
// since the last sync was submitted needs only the reads to drain.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "format/journal_record.h"

namespace cowl {

// A set of blocks, as disjoint ranges that do not touch.
class BlockSet {
 public:
  void Add(const SlotRun& run);
  void Remove(const SlotRun& run);
  // Calls visit(run, is_member) for each piece of `run` in order.
  template <typename Visit>
  void Split(const SlotRun& run, Visit&& visit) const;
  bool empty() const { return ranges_.empty(); }
  uint64_t blocks() const { return blocks_; }
  void Clear();
  // Takes at most `blocks` from the first range at or after `from`, wrapping around. Empty run when
  // the set is empty.
  SlotRun TakeFrom(uint64_t from, uint64_t blocks);
  // Takes exactly `blocks` that lie in one range; empty run when no range is that long.
  SlotRun TakeContiguous(uint64_t blocks);
  // Takes at most `blocks` from a long range: the one that begins at `from`, else the shortest that
  // has them all, else the longest. Empty run when there is none.
  SlotRun TakeLong(uint64_t from, uint64_t blocks);
  static constexpr uint64_t kLongBlocks = 16;
  template <typename Visit>
  void ForEach(Visit&& visit) const {
    for (const auto& [begin, end] : ranges_) visit(SlotRun{begin, end - begin});
  }

 private:
  void Insert(uint64_t begin, uint64_t end);
  void Erase(absl::btree_map<uint64_t, uint64_t>::iterator at);
  SlotRun TakeFront(uint64_t begin, uint64_t blocks);

  absl::btree_map<uint64_t, uint64_t> ranges_;           // begin -> end
  absl::btree_set<std::pair<uint64_t, uint64_t>> long_;  // length and begin of long ranges
  uint64_t blocks_ = 0;
};

class SlotAllocator {
 public:
  // Everything from `tail` on is free.
  explicit SlotAllocator(uint64_t tail) : tail_(tail) {}

  // At least one block, at most `blocks`; freed space first, then the end of the file. Empty run
  // when the file would pass what the format can name.
  SlotRun Take(uint64_t blocks);
  // The same for a long write: passes over freed space that lies about in pieces. On a full disk
  // the end of the file may be refused where Take still finds room.
  SlotRun TakeLong(uint64_t blocks);
  // Exactly `blocks` in one run, or an empty one as above.
  SlotRun TakeContiguous(uint64_t blocks);
  // Taken and never used, or no longer needed by anybody: free at once.
  void Return(const SlotRun& run);
  // The same, for a run that the file system holds no space for.
  void ReturnHollow(const SlotRun& run);

  // Given up by a record that has been written: free when the rule above allows it.
  void Retire(const SlotRun& run);
  // As Retire, for a slot that is known to have been live at the last durable point (recovery).
  void Pin(const SlotRun& run);

  // A sync is submitted: what is retired from here on waits for the next one. End tells how it
  // went.
  void BeginSync();
  void EndSync(bool succeeded);

  // A read that has looked slots up and not finished with them.
  uint64_t EnterRead();
  void LeaveRead(uint64_t ticket);

  // Retired since the last sync was submitted, waiting for the next.
  uint64_t pinned_blocks() const { return pinned_.blocks(); }
  // Free blocks that the file system may still hold space for.
  uint64_t backed_free_blocks() const { return free_.blocks(); }
  uint64_t tail() const { return tail_; }

  // Takes up to `blocks` of such for punching; hand them back with AddHollow afterwards.
  SlotRun TakeForPunch(uint64_t blocks);
  void AddHollow(const SlotRun& run) { hollow_.Add(run); }
  // For opening: a free run below the tail, not punched.
  void AddFree(const SlotRun& run) { free_.Add(run); }

 private:
  struct ReadGeneration {
    uint64_t readers = 0;
    bool closed = false;  // something waits for its readers
    std::vector<SlotRun> waiting;
  };

  SlotRun Grow(uint64_t blocks);
  SlotRun Taken(const SlotRun& run);
  void ForgetBirth(const SlotRun& run);
  void ReleaseAfterReads(const SlotRun& run);
  void PopDrained();

  uint64_t tail_;
  uint64_t cursor_ = 0;  // where the last Take ended: sequential data stays sequential
  BlockSet free_;
  BlockSet hollow_;   // free and punched
  BlockSet born_;     // taken since the last sync was submitted
  BlockSet pinned_;   // retired since then
  BlockSet syncing_;  // retired before it, while it runs

  std::deque<ReadGeneration> generations_{1};
  uint64_t first_generation_ = 0;
};

template <typename Visit>
void BlockSet::Split(const SlotRun& run, Visit&& visit) const {
  uint64_t begin = run.physical;
  const uint64_t end = run.physical + run.blocks;
  auto it = ranges_.upper_bound(begin);
  if (it != ranges_.begin() && std::prev(it)->second > begin) --it;
  for (; begin < end; ++it) {
    const uint64_t member_from =
        it == ranges_.end() ? end : std::min(end, std::max(begin, it->first));
    if (begin < member_from) visit(SlotRun{begin, member_from - begin}, false);
    begin = member_from;
    if (begin == end) return;
    const uint64_t member_to = std::min(end, it->second);
    visit(SlotRun{begin, member_to - begin}, true);
    begin = member_to;
  }
}

}  // namespace cowl
