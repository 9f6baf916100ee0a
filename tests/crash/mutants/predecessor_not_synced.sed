# engine/overlay/sync.cc
# A flush of the successor leaves the overlay that it continues behind.
/^  if (predecessor != nullptr) status = co_await predecessor->Flush();$/d
