# engine/overlay/sync.cc
# Flushes, checkpoints and incarnations are acknowledged without a sync.
s/^  if (status.ok()) status = co_await file_->Sync(place);$//
