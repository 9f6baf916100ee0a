// uring_socket.h: streams and listeners whose requests complete through a ring.
// Promises: socket.h. A descriptor keeps the flags it came with: blocking or not, both work.
#pragma once

#include <memory>

#include "io/socket.h"
#include "io/uring_loop.h"

namespace cowl {

std::unique_ptr<Stream> MakeUringStream(UringLoop& loop, UniqueFd fd);
std::unique_ptr<Stream> MakeUringStreamPair(UringLoop& loop, UniqueFd in, UniqueFd out);
std::unique_ptr<Listener> MakeUringListener(UringLoop& loop, UniqueFd fd);

}  // namespace cowl
