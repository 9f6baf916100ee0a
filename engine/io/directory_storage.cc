#include "io/directory_storage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

namespace cowl {
namespace {

absl::Status ValidateName(const std::string& name) {
  const std::string framed = "/" + name + "/";
  if (!name.starts_with('/') && framed.find("/../") == std::string::npos &&
      name.find('\0') == std::string::npos) {
    return absl::OkStatus();
  }
  return InvalidArgument(absl::StrCat("file name \"", name, "\" leads out of its store"));
}

UniqueFd OpenAt(int directory, const std::string& name, int flags) {
  int fd;
  do {
    fd = ::openat(directory, name.c_str(), flags | O_CLOEXEC, 0600);
  } while (fd < 0 && errno == EINTR);
  return UniqueFd(fd);
}

int FlagsOf(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead:
      return O_RDONLY;
    case OpenMode::kReadWrite:
      return O_RDWR;
    case OpenMode::kCreate:
      return O_RDWR | O_CREAT | O_EXCL;
  }
  return O_RDONLY;
}

class DirectoryStorage : public Storage {
 public:
  DirectoryStorage(const std::string& directory, FileMaker make_file)
      : directory_(directory), make_file_(std::move(make_file)) {
    root_ = OpenAt(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY);
    if (!root_.valid()) root_error_ = errno;
  }

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& name, OpenMode mode) override {
    const std::string path = PathOf(name);
    const char* const verb = mode == OpenMode::kCreate ? "create" : "open";
    COWL_RETURN_IF_ERROR(Ready(name));
    // O_NONBLOCK: a FIFO planted in the store must not hang us; taken off again, for the ring would
    // not wait for the disk either.
    UniqueFd fd = OpenAt(root_.get(), name, FlagsOf(mode) | O_NONBLOCK | O_NOCTTY);
    if (!fd.valid()) return ErrnoStatus(errno, verb, path);
    struct stat info;
    if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, verb, path);
    if (!S_ISREG(info.st_mode))
      return FailedPrecondition(absl::StrCat(verb, " ", path, ": not a regular file"));
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0)
      return ErrnoStatus(errno, verb, path);
    return make_file_(path, std::move(fd));
  }

  absl::Status Remove(const std::string& name) override {
    COWL_RETURN_IF_ERROR(Ready(name));
    if (::unlinkat(root_.get(), name.c_str(), 0) != 0)
      return ErrnoStatus(errno, "remove", PathOf(name));
    return absl::OkStatus();
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    COWL_RETURN_IF_ERROR(Ready(from));
    COWL_RETURN_IF_ERROR(Ready(to));
    if (::renameat(root_.get(), from.c_str(), root_.get(), to.c_str()) != 0) {
      return ErrnoStatus(errno, "rename", absl::StrCat(PathOf(from), " to ", PathOf(to)));
    }
    return absl::OkStatus();
  }

  absl::Status SyncDirectory(const std::string& folder) override {
    COWL_RETURN_IF_ERROR(Ready(folder));
    const UniqueFd fd = OpenFolder(folder);
    if (!fd.valid()) return ErrnoStatus(errno, "open folder", PathOf(folder));
    int result;
    do {
      result = ::fsync(fd.get());
    } while (result != 0 && errno == EINTR);
    if (result != 0) return ErrnoStatus(errno, "sync folder", PathOf(folder));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override {
    COWL_RETURN_IF_ERROR(Ready(folder));
    UniqueFd fd = OpenFolder(folder);
    if (!fd.valid()) return ErrnoStatus(errno, "open folder", PathOf(folder));
    const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(fd.get()), ::closedir);
    if (entries == nullptr) return ErrnoStatus(errno, "list folder", PathOf(folder));
    fd.Release();
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* const entry = ::readdir(entries.get());
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return ErrnoStatus(errno, "list folder", PathOf(folder));
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  absl::Status Ready(const std::string& name) const {
    if (!root_.valid()) return ErrnoStatus(root_error_, "open folder", directory_);
    return ValidateName(name);
  }
  std::string PathOf(const std::string& name) const {
    return name.empty() ? directory_ : directory_ + "/" + name;
  }
  UniqueFd OpenFolder(const std::string& folder) const {
    return OpenAt(root_.get(), folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
  }

  const std::string directory_;
  const FileMaker make_file_;
  UniqueFd root_;
  int root_error_ = 0;
};

}  // namespace

std::unique_ptr<Storage> MakeDirectoryStorage(const std::string& directory, FileMaker make_file) {
  return std::make_unique<DirectoryStorage>(directory, std::move(make_file));
}

}  // namespace cowl
