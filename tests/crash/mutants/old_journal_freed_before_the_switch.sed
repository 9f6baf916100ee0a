# engine/overlay/checkpoint.cc
# The old journal is written over while the old superblock still names it.
s/^  co_return co_await WriteRoot(next);$/  for (const SlotRun\& chunk : frozen_chunks_) slots_.Return(chunk);\
  frozen_chunks_.clear();\
&/
