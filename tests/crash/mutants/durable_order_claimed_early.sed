# engine/overlay/sync.cc
# Records say that something is durable while its sync is still running.
s/^  const uint64_t covered = position_.last_order;$/&\
  durable_order_ = std::max(durable_order_, covered);/
