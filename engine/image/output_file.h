// output_file.h: a file that appears under its name only when it is complete.
// It is written without a name, so that nothing is left of it even by a kill, or, where the file
// system has no such files, under a temporary name in the same folder. Commit makes it durable and
// gives it its name; destroyed before that, it is removed. A symbolic link is followed, so that
// what it points to is replaced. Errors: AlreadyExists without `force`; FailedPrecondition for what
// is no regular file; errno otherwise. Threads: one.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace cowl {

class OutputFile {
 public:
  static absl::StatusOr<std::unique_ptr<OutputFile>> Create(const std::string& path, bool force);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  int fd() const { return fd_.get(); }
  absl::Status Commit();

 private:
  absl::Status TakeName();
  absl::Status Rename();
  OutputFile(const std::string& path, const std::string& temporary_path, bool force, UniqueFd fd)
      : path_(path), temporary_path_(temporary_path), force_(force), fd_(std::move(fd)) {}

  const std::string path_;
  std::string temporary_path_;  // empty: it has no name
  const bool force_;
  UniqueFd fd_;
  bool committed_ = false;
};

}  // namespace cowl
