// host.h: what a server asks of the host beside sockets. All best effort: a host that refuses still
// gets served.
#pragma once

#include <string>

#include "base/unique_fd.h"

namespace cowl {

// More files, reclaim that does not wait for our own writes, and to be among the last when memory
// runs out.
void PrepareHostForServing();

// Tells systemd, where it started us: "READY=1", "STOPPING=1".
void NotifySupervisor(const std::string& state);

// Blocks SIGTERM, SIGINT and SIGHUP for this thread and those it starts; readable when one came.
// Invalid: the host has no signalfd.
UniqueFd BlockEndingSignals();

}  // namespace cowl
