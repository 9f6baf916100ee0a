# engine/overlay/replay.cc
# Records that are known to be durable are verified like the tail: their slots may hold newer data by now.
s/if (chain.records\[i\].order <= durable) {/if (chain.records[i].order == 0) {/
