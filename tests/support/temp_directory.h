// temp_directory.h: an empty directory that goes away, with all in it, at the end of the scope.
#pragma once

#include <filesystem>
#include <string>

namespace cowl {

class TempDirectory {
 public:
  // Below `parent`; by default $TMPDIR, else /tmp. Ends the test program when it cannot be made.
  explicit TempDirectory(const std::string& parent = "");
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  ~TempDirectory();

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace cowl
