#include "store/store_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr std::chrono::milliseconds kRetryEvery{20};

std::string DirectoryOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// "process 42 (cowl)", as far as it can be told.
std::string HolderOf(int fd) {
  char text[24] = {};
  const ssize_t got = ::pread(fd, text, sizeof(text) - 1, 0);
  int pid = 0;
  if (got <= 0 || !absl::SimpleAtoi(text, &pid) || pid <= 0) return "another process";
  std::ifstream comm(absl::StrCat("/proc/", pid, "/comm"));
  std::string name;
  if (!std::getline(comm, name)) return "another process";
  return absl::StrCat("process ", pid, " (", name, ")");
}

absl::Status WriteHolder(int fd, const std::string& path) {
  const std::string text = absl::StrCat(::getpid(), "\n");
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, text.data(), text.size(), 0) < 0) {
    // Only the message to others suffers; a full disk must not keep a store shut.
    if (errno != ENOSPC && errno != EDQUOT) return ErrnoStatus(errno, "write", path);
  }
  return absl::OkStatus();
}

// NotFound: there is none.
absl::StatusOr<UniqueFd> OpenLock(const std::string& path, int flags) {
  // O_NONBLOCK: a FIFO in its place must not hang us.
  UniqueFd fd(::open(path.c_str(), flags | O_NONBLOCK | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, "open", path);
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "open", path);
  if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) return fd;
  return FailedPrecondition(
      absl::StrCat("open ", path, ": not a regular file; remove it, it is made anew"));
}

absl::Status Lock(const UniqueFd& fd, const std::string& path, StoreLock::Kind kind, int wait_ms) {
  const int operation = (kind == StoreLock::Kind::kExclusive ? LOCK_EX : LOCK_SH) | LOCK_NB;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  while (::flock(fd.get(), operation) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "lock", path);
    if (std::chrono::steady_clock::now() >= give_up) {
      return Unavailable(absl::StrCat("store ", DirectoryOf(path), ": ", HolderOf(fd.get()),
                                      kStoreIsOpenElsewhere));
    }
    std::this_thread::sleep_for(kRetryEvery);
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenAndLock(const std::string& path, int flags, StoreLock::Kind kind,
                                     int wait_ms) {
  COWL_ASSIGN_OR_RETURN(UniqueFd fd, OpenLock(path, flags));
  COWL_RETURN_IF_ERROR(Lock(fd, path, kind, wait_ms));
  return fd;
}

// A copy of a store may come without the file. Whoever makes it has the directory itself locked
// meanwhile; whoever only reads makes none, and keeps the directory locked instead.
absl::StatusOr<UniqueFd> LockWithoutFile(const std::string& path, StoreLock::Kind kind,
                                         int wait_ms) {
  const bool writes = kind == StoreLock::Kind::kExclusive;
  COWL_ASSIGN_OR_RETURN(UniqueFd directory,
                        OpenAndLock(DirectoryOf(path) + "/", O_RDONLY, kind, wait_ms));
  auto file = OpenAndLock(path, writes ? O_RDWR | O_CREAT : O_RDONLY, kind, wait_ms);
  return !writes && absl::IsNotFound(file.status()) ? std::move(directory) : std::move(file);
}

}  // namespace

absl::StatusOr<StoreLock> StoreLock::Take(const std::string& path, Kind kind, int wait_ms) {
  const int flags = kind == Kind::kExclusive ? O_RDWR : O_RDONLY;
  auto fd = OpenAndLock(path, flags, kind, wait_ms);
  if (absl::IsNotFound(fd.status())) fd = LockWithoutFile(path, kind, wait_ms);
  COWL_RETURN_IF_ERROR(fd.status());
  if (kind == Kind::kExclusive) COWL_RETURN_IF_ERROR(WriteHolder(fd->get(), path));
  return StoreLock(*std::move(fd));
}

}  // namespace cowl
