// limits.h: what the process may hold of the host.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace cowl {

// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard one, and returns it: a device and
// a connection are a descriptor each, and the usual soft limit is 1,024. For processes that serve;
// call it before starting others with select(2).
absl::StatusOr<uint64_t> RaiseOpenFileLimit();

}  // namespace cowl
