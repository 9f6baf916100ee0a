// init.cc: Store::Init. The catalog comes last, by a rename: a directory without one is no store
// yet, and what an Init that was cut short left in it may be taken over by the next.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "catalog/catalog.h"
#include "cowl/store.h"
#include "store/disk.h"
#include "store/paths.h"
#include "store/reserve.h"
#include "store/store_lock.h"

namespace cowl {
namespace {

namespace fs = std::filesystem;

constexpr char kNewCatalog[] = "catalog.db.new";

bool IsOfInit(const std::string& name) {
  static constexpr std::array kNames = {kLayersFolder, kVolumesFolder, kStagingFolder,
                                        kAttachFolder, kReserveFile,   kLockFile};
  for (const char* const known : kNames) {
    if (name == known) return true;
  }
  return name.starts_with(kNewCatalog);
}

// Nothing is there, or only what an Init that was cut short has made.
absl::Status CheckEmpty(const std::string& directory) {
  std::error_code error;
  fs::directory_iterator entries(directory, error);
  if (error) return ErrnoStatus(error.value(), "open directory", directory);
  if (PathExists(directory + "/" + kCatalogFile)) {
    return AlreadyExists(
        absl::StrCat(directory, ": there is a store already; choose another directory"));
  }
  for (; entries != fs::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename();
    if (name == "lost+found") continue;  // the root of a file system of its own
    const bool holds_something =
        entries->is_directory(error) && !fs::is_empty(entries->path(), error);
    if (!IsOfInit(name) || holds_something) {
      return FailedPrecondition(absl::StrCat(directory, ": not empty (", Absl(name.substr(0, 60)),
                                             "); choose a new or an empty directory"));
    }
  }
  if (error) return ErrnoStatus(error.value(), "read directory", directory);
  return absl::OkStatus();
}

absl::Status MakeStoreDirectory(const fs::path& directory) {
  std::error_code error;
  if (const fs::path parent = directory.parent_path(); !parent.empty())
    fs::create_directories(parent, error);
  if (error) return ErrnoStatus(error.value(), "make directory", directory.parent_path().string());
  COWL_RETURN_IF_ERROR(MakeDirectory(directory).status());
  if (!fs::is_directory(directory, error))
    return ErrnoStatus(ENOTDIR, "make a store in", directory.string());
  return CheckEmpty(directory);
}

absl::Status MakeLockFile(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  return file.valid() ? absl::OkStatus() : ErrnoStatus(errno, "create", path);
}

absl::Status MakeCatalog(const StorePaths& paths) {
  const std::string fresh = paths.Of(kNewCatalog);
  for (const char* const suffix : {"", "-wal", "-journal"}) ::unlink((fresh + suffix).c_str());
  COWL_RETURN_IF_ERROR(Catalog::Create(fresh));
  COWL_RETURN_IF_ERROR(SyncPath(fresh));
  if (::rename(fresh.c_str(), paths.Of(kCatalogFile).c_str()) != 0)
    return ErrnoStatus(errno, "rename", fresh);
  return SyncPath(paths.root);  // from here on it is a store
}

}  // namespace

absl::Status Store::Init(const std::string& directory) {
  std::error_code error;
  fs::path absolute = fs::absolute(directory, error).lexically_normal();
  if (error || directory.empty()) return InvalidArgument("the store's directory must have a name");
  if (!absolute.has_filename()) absolute = absolute.parent_path();
  COWL_RETURN_IF_ERROR(MakeStoreDirectory(absolute));
  const StorePaths paths{absolute.string()};
  COWL_RETURN_IF_ERROR(MakeLockFile(paths.Of(kLockFile)));
  COWL_ASSIGN_OR_RETURN(const StoreLock lock,
                        StoreLock::Take(paths.Of(kLockFile), StoreLock::Kind::kExclusive, 0));
  COWL_RETURN_IF_ERROR(CheckEmpty(paths.root));  // again, now that nobody else makes one here
  for (const char* const folder : kFolders)
    COWL_RETURN_IF_ERROR(MakeDirectory(paths.Of(folder)).status());
  Reserve(paths.Of(kReserveFile)).Refill();
  COWL_RETURN_IF_ERROR(MakeCatalog(paths));
  return SyncPath(absolute.parent_path().string());
}

}  // namespace cowl
