#include "store/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "base/status.h"
#include "base/unique_fd.h"
#include "base/units.h"

namespace cowl {

absl::Status SyncPath(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "open", path);
  return ::fsync(fd.get()) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "sync", path);
}

absl::Status RemovePath(const std::string& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return ErrnoStatus(errno, "remove", path);
}

absl::Status RenamePath(const std::string& from, const std::string& to) {
  return ::rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus()
                                                 : ErrnoStatus(errno, "rename", from);
}

bool PathExists(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0;
}

uint64_t DiskBytesOf(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) * 512 : 0;
}

absl::StatusOr<bool> MakeDirectory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) return true;
  if (errno == EEXIST) return false;
  return ErrnoStatus(errno, "make directory", path);
}

absl::StatusOr<std::vector<std::pair<uint64_t, uint64_t>>> DataBlocksOf(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "open", path);
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  off_t end = 0;
  while (true) {
    const off_t begin = ::lseek(fd.get(), end, SEEK_DATA);
    if (begin < 0 && errno == ENXIO) return ranges;  // no data up to the end
    if (begin >= 0) end = ::lseek(fd.get(), begin, SEEK_HOLE);
    if (begin < 0 || end < 0) {
      if (errno == EINVAL || errno == EOPNOTSUPP) return decltype(ranges)();
      return ErrnoStatus(errno, "look for data in", path);
    }
    ranges.emplace_back(BlocksFloor(static_cast<uint64_t>(begin)),
                        BlocksCeil(static_cast<uint64_t>(end)));
  }
}

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator entries(directory, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  if (error) return ErrnoStatus(error.value(), "open directory", directory);
  for (; entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    names.push_back(entries->path().filename());
    if (error) break;
  }
  if (error) return ErrnoStatus(error.value(), "read directory", directory);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<HostSpace> SpaceOf(const std::string& path) {
  struct statvfs info;
  if (::statvfs(path.c_str(), &info) != 0) return ErrnoStatus(errno, "ask for the space of", path);
  return HostSpace{static_cast<uint64_t>(info.f_bavail) * info.f_frsize,
                   static_cast<uint64_t>(info.f_blocks) * info.f_frsize};
}

}  // namespace cowl
