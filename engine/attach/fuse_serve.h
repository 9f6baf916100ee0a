// fuse_serve.h: the process that shows one export as one file, for a loop device to sit on.
// It is this program started anew, in a session of its own, and lives until the file is unmounted;
// the file is the mount point itself (a regular file). No page cache in between: the loop device's
// holder has one already, and a second would show old data after a reset. When the server goes away
// requests wait for it to come back (nbd_pool.h). Errors: Start reports what the new process says
// when it cannot begin; later ones become the requests' errno.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace cowl {

struct FuseOptions {
  std::string socket_path;
  std::string export_name;
  std::string identity;
  std::string file;    // an empty regular file to mount over
  std::string source;  // what the mount table shows as the source, free of commas
  bool read_only = false;
  int connections = 1;
  uint32_t dead_server_timeout_s = 0;
};

struct FuseProcess {
  int64_t pid = 0;
  uint64_t started = 0;  // /proc/PID/stat's start time
};

// Returns once the file is there. The process outlives the caller and holds none of its
// descriptors.
absl::StatusOr<FuseProcess> StartFuse(const FuseOptions& options);

// True when the process of that pid is the one that started then.
bool IsRunning(const FuseProcess& process);
// Waits for it to end; false when it has not in `timeout_ms`.
bool WaitForEnd(const FuseProcess& process, int timeout_ms);
// Ends it at once: for a process whose file is gone and which still waits for a server.
void EndProcess(const FuseProcess& process);

}  // namespace cowl
