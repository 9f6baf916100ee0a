#include "image/output_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/uuid.h"
#include "image/frozen_source.h"

namespace cowl {
namespace {

absl::Status Taken(const std::string& path) {
  return AlreadyExists(
      absl::StrCat(path, " exists already; name another file, or replace it with --force"));
}

// The path with links resolved when something is there, else as it is.
absl::StatusOr<std::string> Target(const std::string& path, bool force) {
  if (path.empty() || path.back() == '/') {
    return InvalidArgument(absl::StrCat("\"", path, "\" does not name a file"));
  }
  struct stat st;
  if (lstat(path.c_str(), &st) != 0) {
    if (errno != ENOENT) return ErrnoStatus(errno, "stat", path);
    return path;
  }
  if (S_ISLNK(st.st_mode) && stat(path.c_str(), &st) != 0) {
    return ErrnoStatus(errno, "follow the link", path);
  }
  if (!S_ISREG(st.st_mode)) {
    return FailedPrecondition(
        absl::StrCat(path, " is not a regular file; name a file, or export to - and pipe that on"));
  }
  if (!force) return Taken(path);
  char* const resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return ErrnoStatus(errno, "resolve", path);
  std::string target = resolved;
  free(resolved);
  return target;
}

// No part of the name proper: that may be as long as a name can be.
std::string TemporaryPathFor(const std::string& target) {
  return absl::StrCat(FolderOf(target), "/.cowl-", absl::Hex(RandomSecret(), absl::kZeroPad16),
                      ".tmp");
}

std::string PathOfOpen(int fd) { return absl::StrCat("/proc/self/fd/", fd); }

// Invalid where the file system has no files without a name, or one could not be given later.
UniqueFd OpenUnnamed(const std::string& folder) {
  UniqueFd fd(open(folder.c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0666));
  if (fd.valid() && access(PathOfOpen(fd.get()).c_str(), F_OK) != 0) fd.Reset();
  return fd;
}

// 0 or errno.
int Link(int fd, const std::string& path) {
  const std::string open_path = PathOfOpen(fd);
  const int linked = linkat(AT_FDCWD, open_path.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW);
  return linked == 0 ? 0 : errno;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputFile>> OutputFile::Create(const std::string& path,
                                                               bool force) {
  COWL_ASSIGN_OR_RETURN(const std::string target, Target(path, force));
  std::string temporary;
  UniqueFd fd = OpenUnnamed(FolderOf(target));
  if (!fd.valid()) {
    temporary = TemporaryPathFor(target);
    fd = UniqueFd(open(temporary.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  }
  if (!fd.valid()) return ErrnoStatus(errno, "create a file beside", target);
  return std::unique_ptr<OutputFile>(new OutputFile(target, temporary, force, std::move(fd)));
}

OutputFile::~OutputFile() {
  if (!committed_ && !temporary_path_.empty()) unlink(temporary_path_.c_str());
}

// Somebody may have made a file of that name meanwhile.
absl::Status OutputFile::TakeName() {
  if (!temporary_path_.empty()) return Rename();
  int error = Link(fd_.get(), path_);
  if (error == EEXIST && !force_) return Taken(path_);
  if (error != EEXIST) return error == 0 ? absl::OkStatus() : ErrnoStatus(error, "name", path_);
  // A link replaces nothing; a rename does.
  temporary_path_ = TemporaryPathFor(path_);
  error = Link(fd_.get(), temporary_path_);
  return error == 0 ? Rename() : ErrnoStatus(error, "name a file beside", path_);
}

absl::Status OutputFile::Rename() {
  const unsigned flags = force_ ? 0 : RENAME_NOREPLACE;
  int renamed = renameat2(AT_FDCWD, temporary_path_.c_str(), AT_FDCWD, path_.c_str(), flags);
  if (renamed != 0 && errno == EINVAL) {  // a file system without RENAME_NOREPLACE
    if (access(path_.c_str(), F_OK) == 0) return Taken(path_);
    renamed = rename(temporary_path_.c_str(), path_.c_str());
  }
  if (renamed != 0) return errno == EEXIST ? Taken(path_) : ErrnoStatus(errno, "rename to", path_);
  return absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  if (fsync(fd_.get()) != 0) return ErrnoStatus(errno, "sync what is to be", path_);
  COWL_RETURN_IF_ERROR(TakeName());  // the commit point
  committed_ = true;
  UniqueFd folder(open(FolderOf(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.valid() && fsync(folder.get()) != 0 && errno != EINVAL) {
    return ErrnoStatus(errno, "sync the folder of", path_);
  }
  return absl::OkStatus();
}

}  // namespace cowl
