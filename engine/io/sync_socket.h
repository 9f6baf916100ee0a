// sync_socket.h: streams and listeners over epoll. Promises: socket.h.
// Sockets keep their flags. Pipes and terminals are set non-blocking while they are wrapped, and as
// they were afterwards.
#pragma once

#include <memory>

#include "io/socket.h"
#include "io/sync_loop.h"

namespace cowl {

std::unique_ptr<Stream> MakeSyncStream(SyncLoop& loop, UniqueFd fd);
std::unique_ptr<Stream> MakeSyncStreamPair(SyncLoop& loop, UniqueFd in, UniqueFd out);
std::unique_ptr<Listener> MakeSyncListener(SyncLoop& loop, UniqueFd fd);

}  // namespace cowl
