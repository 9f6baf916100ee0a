#include "io/limits.h"

#include <sys/resource.h>

#include <cerrno>

#include "base/status.h"

namespace cowl {

absl::StatusOr<uint64_t> RaiseOpenFileLimit() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return ErrnoStatus(errno, "read", "the limit of open files");
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
      return ErrnoStatus(errno, "raise", "the limit of open files");
  }
  return static_cast<uint64_t>(limit.rlim_cur);
}

}  // namespace cowl
