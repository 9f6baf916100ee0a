# engine/overlay/slot_allocator.cc
# A slot of the last durable state is written over before its replacement is durable.
s/^      pinned_.Add(piece);$/      ReleaseAfterReads(piece);/
