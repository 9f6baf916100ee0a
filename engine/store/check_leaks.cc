// check_leaks.cc: the part of check that looks for space that nothing refers to: what gc would
// free. What the reaper has still to do, or somebody is just making, is none.
#include <sys/stat.h>

#include <algorithm>
#include <shared_mutex>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "store/checker.h"
#include "store/disk.h"
#include "store/staging.h"

namespace cowl {
namespace {

// What a layer's file needs besides data.
Task<absl::StatusOr<BlockRanges>> LoadMetadata(Storage& storage, std::string name) {
  absl::StatusOr<DataFileLayout> layout =
      co_await OpenLayout(storage, std::move(name), OpenMode::kRead);
  if (!layout.ok()) co_return layout.status();
  co_return Normalized(MetadataRanges(layout->superblock, layout->page_blocks));
}

// A file system gives back nothing smaller than its own blocks.
BlockRanges InWholeUnits(const BlockRanges& ranges, uint64_t unit_blocks) {
  BlockRanges whole;
  for (const auto& [begin, end] : ranges) {
    const uint64_t from = (begin + unit_blocks - 1) / unit_blocks * unit_blocks;
    const uint64_t to = end / unit_blocks * unit_blocks;
    if (from < to) whole.emplace_back(from, to);
  }
  return whole;
}

}  // namespace

absl::Status Checker::CheckLeaks() {
  store_.worker_.Wait(std::chrono::seconds(2));  // what is being freed is no leak
  COWL_RETURN_IF_ERROR(FindUnnamedFiles());
  for (const std::string& path : AbandonedFiles(store_.paths_.root)) {
    if (DiskBytesOf(path) > 0) run_.Leak(path, 0, "was left by an import that was killed");
  }
  COWL_ASSIGN_OR_RETURN(const std::set<Uuid> due, store_.Read<std::set<Uuid>>(Reaper::DueFiles));
  for (auto& [file, live] : run_.live) {
    if (due.contains(file) || run_.unread.contains(file)) continue;
    COWL_RETURN_IF_ERROR(FindDeadBlocks(file, Normalized(std::move(live))));
  }
  return absl::OkStatus();
}

absl::Status Checker::FindUnnamedFiles() {
  // So that nothing is there that is just about to be named. A snapshot names its file first,
  // without the lock, and a removal forgets the name first: names from before and after the
  // listing.
  std::unique_lock lock(store_.files_mutex_);
  std::unordered_set<std::string> named;
  COWL_RETURN_IF_ERROR(AddNamedPaths(named));
  std::vector<std::string> paths;
  for (const char* const folder : {kLayersFolder, kVolumesFolder}) {
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(store_.paths_.Of(folder)));
    for (const std::string& name : names)
      paths.push_back(absl::StrCat(store_.paths_.Of(folder), "/", name));
  }
  COWL_RETURN_IF_ERROR(AddNamedPaths(named));
  for (const std::string& path : paths) {
    if (named.contains(path)) continue;
    const bool is_ours = absl::EndsWith(path, kDataSuffix) || absl::EndsWith(path, kVolumeSuffix);
    run_.Leak(path, 0,
              is_ours ? "belongs to no image and no device"
                      : "is no file of a store: remove it, or move it elsewhere; gc leaves it");
  }
  return absl::OkStatus();
}

absl::Status Checker::AddNamedPaths(std::unordered_set<std::string>& named) {
  return store_.catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> ids, queries.NamedFiles());
    for (const Uuid& id : ids) named.insert(store_.paths_.DataFile(id));
    COWL_ASSIGN_OR_RETURN(const std::vector<std::string> volumes, queries.VolumeFiles());
    for (const std::string& volume : volumes)
      named.insert(absl::StrCat(store_.paths_.Of(kVolumesFolder), "/", volume));
    return absl::OkStatus();
  });
}

// `live`: what the maps named when they were read. No block that was in none of them comes to life,
// so what is dead by them is dead.
absl::Status Checker::FindDeadBlocks(const Uuid& file, BlockRanges live) {
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, store_.loops_.Any());
  const std::string path = store_.paths_.DataFile(file);
  std::shared_lock lock(store_.files_mutex_);  // nobody is about to write a new map at its end
  const absl::StatusOr<BlockRanges> metadata =
      RunOn(slot->loop(), LoadMetadata(*slot->storage, DataFileName(file)));
  struct stat info;
  if (!metadata.ok() || ::stat(path.c_str(), &info) != 0) return absl::OkStatus();  // told already
  COWL_ASSIGN_OR_RETURN(BlockRanges data, DataBlocksOf(path));
  lock.unlock();
  live.insert(live.end(), metadata->begin(), metadata->end());
  live = Normalized(std::move(live));
  const uint64_t unit_blocks = std::max<uint64_t>(1, BlocksFloor(info.st_blksize));
  const BlockRanges dead = InWholeUnits(Without(Normalized(std::move(data)), live), unit_blocks);
  // Where holes are told as data, the space that the file takes says that nothing is there.
  const uint64_t disk_blocks = BlocksFloor(static_cast<uint64_t>(info.st_blocks) * 512);
  const uint64_t spare_blocks = disk_blocks - std::min(disk_blocks, BlocksIn(live));
  const uint64_t dead_blocks = std::min(BlocksIn(dead), spare_blocks);
  if (dead_blocks == 0) return absl::OkStatus();
  run_.Leak(path, BlockOffsetBytes(dead.front().first),
            absl::StrCat("holds ", BlockOffsetBytes(dead_blocks), " bytes that no layer needs"));
  return absl::OkStatus();
}

}  // namespace cowl
