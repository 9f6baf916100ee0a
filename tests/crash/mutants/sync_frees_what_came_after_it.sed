# engine/overlay/slot_allocator.cc
# The end of a sync frees slots whose replacement's record was written after the sync was submitted.
s/^  BlockSet synced = std::move(syncing_);$/&\
  pinned_.ForEach([this](const SlotRun\& run) { ReleaseAfterReads(run); });\
  pinned_ = {};/
