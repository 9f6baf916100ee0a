// overlay_internal.h: what the overlay's source files share. Not for others.
#pragma once

#include "overlay/overlay.h"

namespace cowl {

// One record on its way into the journal; lives in the frame of the coroutine that waits for it.
struct Overlay::Pending {
  JournalRecord record;
  absl::Status status;
  std::coroutine_handle<> waiter;
};

// More written than this since the last sync ends an epoch: what a recovery has to verify stays
// bounded.
inline constexpr uint64_t kUnsyncedBlocksMax = 64 * kMiB / kBlockBytes;

// The journal's chunks: small at first, so that a small overlay stays small, then doubling.
inline constexpr uint64_t kChunkBlocksMin = 64 * kKiB / kBlockBytes;

// Counts background work of an overlay while it exists.
class BackgroundWork {
 public:
  BackgroundWork(int& count, WaitQueue& done) : count_(count), done_(done) { ++count_; }
  ~BackgroundWork() {
    if (--count_ == 0) done_.WakeAll();
  }
  BackgroundWork(const BackgroundWork&) = delete;
  BackgroundWork& operator=(const BackgroundWork&) = delete;

 private:
  int& count_;
  WaitQueue& done_;
};

inline Superblock RootWithoutJournal(Superblock root) {
  root.journal_block = 0;
  root.journal_blocks = 0;
  return root;
}

}  // namespace cowl
