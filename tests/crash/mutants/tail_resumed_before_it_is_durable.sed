# engine/overlay/journal.cc
# resume_order is raised over a tail that is in the page cache only.
/^  if (durable_order_ < position_.last_order) COWL_CO_RETURN_IF_ERROR(co_await SyncAfterNow());$/d
