// staging.h: files that imports write before they are registered, and how to tell those that a
// crash left. Beside a staged file lies a lock file that its maker holds by flock: one that can be
// locked belongs to nobody any more. Threads and processes: any. Ownership: a StagedFile removes
// what is left of it when it goes; registering moves the file away. Errors: those of the file
// system. Durability: none; abandoned files are removed by gc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace cowl {

class StagedFile {
 public:
  // A name in the staging folder of `store`; the file itself is not made.
  static absl::StatusOr<StagedFile> Make(const std::string& store);
  StagedFile(StagedFile&&) = default;
  StagedFile& operator=(StagedFile&&) = delete;
  ~StagedFile();

  const std::string& path() const { return path_; }

 private:
  StagedFile(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;  // invalid: moved from
};

struct Abandoned {
  uint64_t file_count = 0;
  uint64_t disk_bytes = 0;
};

// Those that take space: a lock file alone may be that of an import that begins just now.
std::vector<std::string> AbandonedFiles(const std::string& store);
Abandoned FindAbandoned(const std::string& store);
// Removes them and says what that freed.
Abandoned RemoveAbandoned(const std::string& store);

}  // namespace cowl
