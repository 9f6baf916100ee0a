# engine/overlay/slot_allocator.cc
# A slot that a read has looked up is written over.
s/^  const bool idle = generations_.size() == 1.*$/  const bool idle = true;/
