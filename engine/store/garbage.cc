// garbage.cc: the part of the reaper that looks for what crashes left: files that no row names, and
// blocks that no map names.
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "store/disk.h"
#include "store/reaper.h"

namespace cowl {

absl::StatusOr<uint64_t> Reaper::RemoveUnnamedFiles() {
  // Whoever makes a file before its row holds the mutex shared until the row is there.
  std::unique_lock lock(files_mutex_);
  // The folders first: a snapshot writes the row before the file, and without this lock.
  COWL_ASSIGN_OR_RETURN(const std::vector<std::string> in_layers,
                        NamesIn(paths_.Of(kLayersFolder)));
  COWL_ASSIGN_OR_RETURN(const std::vector<std::string> in_volumes,
                        NamesIn(paths_.Of(kVolumesFolder)));
  std::unordered_set<std::string> data_files;
  std::unordered_set<std::string> volumes;
  COWL_RETURN_IF_ERROR(catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> named, queries.NamedFiles());
    for (const Uuid& id : named) data_files.insert(id.ToString() + kDataSuffix);
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> volume_files, queries.VolumeFiles());
    volumes.insert(volume_files.begin(), volume_files.end());
    return absl::OkStatus();
  }));
  COWL_ASSIGN_OR_RETURN(const uint64_t data_bytes,
                        RemoveUnnamed(kLayersFolder, in_layers, kDataSuffix, data_files));
  COWL_ASSIGN_OR_RETURN(const uint64_t volume_bytes,
                        RemoveUnnamed(kVolumesFolder, in_volumes, kVolumeSuffix, volumes));
  return data_bytes + volume_bytes;
}

// Files with other endings are not ours to remove; check reports them.
absl::StatusOr<uint64_t> Reaper::RemoveUnnamed(const std::string& folder,
                                               const std::vector<std::string>& names,
                                               const std::string& suffix,
                                               const std::unordered_set<std::string>& named) {
  uint64_t freed_bytes = 0;
  for (const std::string& name : names) {
    if (!name.ends_with(suffix) || named.contains(name)) continue;
    const std::string path = paths_.Of(folder) + "/" + name;
    const uint64_t bytes = DiskBytesOf(path);
    COWL_RETURN_IF_ERROR(RemovePath(path));
    freed_bytes += bytes;
  }
  return freed_bytes;
}

absl::StatusOr<uint64_t> Reaper::CollectGarbage() {
  // One layer that is damaged must not keep the space of the others.
  const absl::StatusOr<uint64_t> unnamed_bytes = Run();
  COWL_ASSIGN_OR_RETURN(const uint64_t file_bytes, RemoveUnnamedFiles());
  std::vector<Uuid> files;
  COWL_RETURN_IF_ERROR(catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(files, queries.LayerFiles());
    return absl::OkStatus();
  }));
  uint64_t punched_bytes = 0;
  absl::Status failed = unnamed_bytes.status();
  for (const Uuid& file : files) {
    COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
    const absl::StatusOr<uint64_t> bytes = PunchFile(*slot, file);
    if (bytes.ok()) {
      punched_bytes += *bytes;
    } else {
      failed.Update(bytes.status());
    }
  }
  if (!failed.ok()) return failed;
  return *unnamed_bytes + file_bytes + punched_bytes;
}

}  // namespace cowl
