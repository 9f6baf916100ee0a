// mount.h: mounting a device with what its file system needs, and finding out who keeps one busy.
// Errors: as attach.h. Threads: any.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

// OK when `path` is an absolute, empty directory on which nothing is mounted.
absl::Status CheckMountDirectory(const std::string& path);

// The type of what is on a device. FailedPrecondition: nothing, a partition table, or several
// things at once.
absl::StatusOr<std::string> DetectFileSystem(const std::string& device);

// Pure: the mount options a file system is given here: discard where it can, its own id twice on
// one host (clones), no replay of a journal on a device that cannot be written.
std::string MountOptionsFor(const std::string& file_system, bool read_only);

absl::Status MountDevice(const std::string& device, const std::string& directory,
                         const std::string& file_system, bool read_only);

// "bash (pid 12: working directory)" for each process that uses what is mounted at `directory`, at
// most ten.
std::vector<std::string> UsersOfMount(const std::string& directory);
// Likewise for what has `device` open, and where it is mounted, other than at `except_mount`.
std::vector<std::string> UsersOfDevice(const std::string& device, const std::string& except_mount);

}  // namespace cowl
