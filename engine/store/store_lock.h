// store_lock.h: one process at a time has a store open for writing: flock on STORE/lock, so that a
// killed process leaves none. Ownership: held until destroyed; never passed to a ring or to a child
// (O_CLOEXEC). Threads: any. Errors: Unavailable names the process that has the store; NotFound
// when there is no such file.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace cowl {

// How the message ends that says who has the store; it tells a process that started another why
// that one gave up.
inline constexpr char kStoreIsOpenElsewhere[] = " has it open; wait for it, or end it";

class StoreLock {
 public:
  enum class Kind {
    kShared /* writes nothing */,
    kExclusive /* writes its process id into the file */
  };

  // Tries for `wait_ms` before it gives up. Makes the file for kExclusive where there is none.
  static absl::StatusOr<StoreLock> Take(const std::string& path, Kind kind, int wait_ms);

 private:
  explicit StoreLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace cowl
