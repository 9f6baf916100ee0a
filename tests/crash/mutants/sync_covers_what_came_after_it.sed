# engine/overlay/sync.cc
# A sync is taken to cover records that were written while it ran.
s/^    durable_order_ = std::max(durable_order_, covered);$/    durable_order_ = std::max({durable_order_, covered, position_.last_order});/
