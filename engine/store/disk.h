// disk.h: the few blocking calls on files and directories that control work makes outside the I/O
// loops. Paths are absolute. Threads: any. Errors: absl::Status with operation, path and reason.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

// fsync of a file or a directory.
absl::Status SyncPath(const std::string& path);
// Removes a file; one that is not there is fine.
absl::Status RemovePath(const std::string& path);
absl::Status RenamePath(const std::string& from, const std::string& to);
bool PathExists(const std::string& path);
// st_blocks x 512; 0 for what is not there.
uint64_t DiskBytesOf(const std::string& path);
// Where the file system says that the file has data, as half-open ranges of whole blocks; holes and
// space that is only reserved are none. Empty where it cannot tell.
absl::StatusOr<std::vector<std::pair<uint64_t, uint64_t>>> DataBlocksOf(const std::string& path);
// True: it was not there.
absl::StatusOr<bool> MakeDirectory(const std::string& path);
// Names in a directory, sorted, without . and ..; none where there is no directory.
absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& directory);

struct HostSpace {
  uint64_t free_bytes = 0;
  uint64_t total_bytes = 0;
};
absl::StatusOr<HostSpace> SpaceOf(const std::string& path);

}  // namespace cowl
