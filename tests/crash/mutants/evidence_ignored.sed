# engine/overlay/replay.cc
# Damage in the journal passes for a crash's tail.
s/^    if (found.durable_order > last_order) {$/    if (found.durable_order == UINT64_MAX) {/
s/^    durable_order = std::max(durable_order, found.durable_order);$//
