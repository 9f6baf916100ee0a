// check_leaks.cc: the part of check that looks for space that nothing refers to: what gc would
// free. What the reaper has still to do, or somebody is just making, is none.
#include <sys/stat.h>

#include <algorithm>
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "store/check_run.h"
#include "store/disk.h"
#include "store/staging.h"
#include "store/store_impl.h"

namespace cowl {
absl::Status StoreImpl::CheckLeaks(CheckRun& run) {
  worker_.Wait(std::chrono::seconds(2));  // what is being freed is no leak
  return FindUnnamedFiles(run);
}

absl::Status StoreImpl::FindUnnamedFiles(CheckRun& run) {
  // So that nothing is there that is just about to be named. A snapshot names its file first,
  // without the lock, and a removal forgets the name first: names from before and after the
  // listing.
  std::unique_lock lock(files_mutex_);
  std::unordered_set<std::string> named;
  COWL_RETURN_IF_ERROR(AddNamedPaths(named));
  std::vector<std::string> paths;
  for (const char* const folder : {kLayersFolder, kVolumesFolder}) {
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(paths_.Of(folder)));
    for (const std::string& name : names)
      paths.push_back(absl::StrCat(paths_.Of(folder), "/", name));
  }
  COWL_RETURN_IF_ERROR(AddNamedPaths(named));
  for (const std::string& path : paths) {
    if (!named.contains(path)) run.Leak(path, 0, "belongs to no image and no device");
  }
  return absl::OkStatus();
}

absl::Status StoreImpl::AddNamedPaths(std::unordered_set<std::string>& named) {
  return catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> ids, queries.NamedFiles());
    for (const Uuid& id : ids) named.insert(paths_.DataFile(id));
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> volumes, queries.VolumeFiles());
    for (const std::string& volume : volumes)
      named.insert(absl::StrCat(paths_.Of(kVolumesFolder), "/", volume));
    return absl::OkStatus();
  });
}

}  // namespace cowl
