#include "store/reserve.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/unique_fd.h"
#include "store/disk.h"

namespace cowl {

bool Reserve::Spend() {
  const uint64_t held_bytes = DiskBytesOf(path_);
  return held_bytes > 0 && ::truncate(path_.c_str(), 0) == 0;
}

void Reserve::Refill() {
  const uint64_t held_bytes = DiskBytesOf(path_);
  if (held_bytes >= kBytes) return;
  const UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const absl::StatusOr<HostSpace> space = SpaceOf(path_);
  if (!fd.valid() || !space.ok()) return;
  const uint64_t wanted_bytes = std::min(kBytes, (held_bytes + space->free_bytes) / 2);
  if (wanted_bytes <= held_bytes) return;
  if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(wanted_bytes)) != 0 &&
      ::ftruncate(fd.get(), 0) != 0)
    return;
}

}  // namespace cowl
