#include "store/staging.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/uuid.h"
#include "store/disk.h"
#include "store/paths.h"

namespace cowl {
namespace {

constexpr char kLockEnding[] = ".lock";

std::string LockPathOf(const std::string& path) { return path + kLockEnding; }

// A store that cannot be written can still be asked.
UniqueFd OpenLock(const std::string& lock_path, bool make) {
  constexpr int kFlags = O_CLOEXEC | O_NOFOLLOW;
  UniqueFd lock(::open(lock_path.c_str(), O_RDWR | kFlags | (make ? O_CREAT : 0), 0600));
  if (!lock.valid() && (errno == EROFS || errno == EACCES))
    lock = UniqueFd(::open(lock_path.c_str(), O_RDONLY | kFlags));
  return lock;
}

// The lock of a staged file. Invalid: somebody else has it, or may not be asked. With `make` a lock
// file is made where there is none; its name is new, so whoever has it locked only looks whose it
// is, and is waited for. A lock file that was removed between opening and locking it is no lock:
// tried again.
UniqueFd TryLock(const std::string& path, bool make) {
  const std::string lock_path = LockPathOf(path);
  while (true) {
    UniqueFd lock = OpenLock(lock_path, make);
    if (!lock.valid()) return UniqueFd();
    if (::flock(lock.get(), LOCK_EX | (make ? 0 : LOCK_NB)) != 0) return UniqueFd();
    struct stat locked {
    }, named{};
    if (::fstat(lock.get(), &locked) != 0) return UniqueFd();
    const bool is_there = ::stat(lock_path.c_str(), &named) == 0;
    if (is_there && named.st_ino == locked.st_ino && named.st_dev == locked.st_dev) return lock;
  }
}

// Calls `visit(path, lock)` for every staged file that nobody holds.
template <typename Visit>
void ForEachAbandoned(const std::string& store, Visit visit) {
  std::error_code error;
  std::set<std::string> paths;
  for (std::filesystem::directory_iterator entry(absl::StrCat(store, "/", kStagingFolder), error),
       end;
       !error && entry != end; entry.increment(error)) {
    std::string path = entry->path().string();
    if (path.ends_with(kLockEnding)) path.resize(path.size() - (sizeof(kLockEnding) - 1));
    paths.insert(path);
  }
  for (const std::string& path : paths) {
    UniqueFd lock = TryLock(path, /*make=*/false);
    const bool has_no_lock = !lock.valid() && ::access(LockPathOf(path).c_str(), F_OK) != 0;
    if (lock.valid() || has_no_lock) visit(path);
  }
}

}  // namespace

absl::StatusOr<StagedFile> StagedFile::Make(const std::string& store) {
  std::string path =
      absl::StrCat(store, "/", kStagingFolder, "/", Uuid::Random().ToString(), kDataSuffix);
  UniqueFd lock = TryLock(path, /*make=*/true);
  if (!lock.valid())
    return ErrnoStatus(errno, "make a file in", absl::StrCat(store, "/", kStagingFolder));
  return StagedFile(std::move(path), std::move(lock));
}

StagedFile::~StagedFile() {
  if (!lock_.valid()) return;
  ::unlink(path_.c_str());
  ::unlink(LockPathOf(path_).c_str());
}

std::vector<std::string> AbandonedFiles(const std::string& store) {
  std::vector<std::string> paths;
  ForEachAbandoned(store, [&](const std::string& path) {
    if (PathExists(path)) paths.push_back(path);
  });
  return paths;
}

Abandoned FindAbandoned(const std::string& store) {
  Abandoned found;
  ForEachAbandoned(store, [&](const std::string& path) {
    ++found.file_count;
    found.disk_bytes += DiskBytesOf(path);
  });
  return found;
}

Abandoned RemoveAbandoned(const std::string& store) {
  Abandoned removed;
  ForEachAbandoned(store, [&](const std::string& path) {
    const uint64_t disk_bytes = DiskBytesOf(path);
    std::error_code error;
    const bool is_removed = std::filesystem::remove_all(path, error) > 0 && !error;
    ::unlink(LockPathOf(path).c_str());
    if (!is_removed) return;
    ++removed.file_count;
    removed.disk_bytes += disk_bytes;
  });
  return removed;
}

}  // namespace cowl
