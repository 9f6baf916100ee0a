#include "store/reaper.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/units.h"
#include "store/disk.h"

namespace cowl {
namespace {

// The catalog's note of files whose dead blocks are still to be given back: their ids, separated by
// spaces.
constexpr char kReclaimSetting[] = "reclaim";

absl::StatusOr<std::set<Uuid>> NotedFiles(CatalogQueries& queries) {
  COWL_ASSIGN_OR_RETURN(const std::string text, queries.Setting(kReclaimSetting));
  std::set<Uuid> files;
  for (const absl::string_view part : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::optional<Uuid> id = Uuid::Parse(Std(part));
    if (!id)
      return DataLoss(absl::StrCat("catalog: setting ", kReclaimSetting, " holds \"", part,
                                   "\", which is no id"));
    files.insert(*id);
  }
  return files;
}

absl::Status NoteFiles(CatalogEdits& edits, const std::set<Uuid>& files) {
  const std::string text =
      absl::StrJoin(files, " ", [](std::string* out, const Uuid& id) { *out += id.ToString(); });
  return edits.SetSetting(kReclaimSetting, text);
}

BlockRanges RangesIn(const FileMap& map, const Uuid& file) {
  BlockRanges ranges;
  for (const Extent& extent : map.extents.extents()) {
    if (extent.is_data() && map.files[extent.source()] == file) {
      ranges.emplace_back(extent.physical(), extent.physical() + extent.length());
    }
  }
  return ranges;
}

// Data files of which `merged`, made of the other two, names fewer blocks than they do, or which it
// does not list any more.
void AddDiminished(const FileMap& child, const FileMap& parent, const FileMap& merged,
                   std::set<Uuid>* diminished) {
  std::map<Uuid, int64_t> fewer;
  for (const Uuid& file : parent.files) {
    if (std::find(merged.files.begin(), merged.files.end(), file) == merged.files.end())
      diminished->insert(file);
  }
  const auto count = [&fewer](const FileMap& map, int64_t sign) {
    for (const Extent& extent : map.extents.extents()) {
      if (extent.is_data())
        fewer[map.files[extent.source()]] += sign * static_cast<int64_t>(extent.length());
    }
  };
  count(child, 1);
  count(parent, 1);
  count(merged, -1);
  for (const auto& [file, blocks] : fewer) {
    if (blocks != 0) diminished->insert(file);
  }
}

}  // namespace

HeldLayers::Hold HeldLayers::Take(const Uuid& layer) {
  std::lock_guard lock(mutex_);
  ++counts_[layer];
  return {this, layer};
}

bool HeldLayers::IsHeld(const Uuid& layer) {
  std::lock_guard lock(mutex_);
  return counts_.contains(layer);
}

void HeldLayers::Release(const Uuid& layer) {
  std::lock_guard lock(mutex_);
  if (--counts_[layer] == 0) counts_.erase(layer);
}

absl::StatusOr<uint64_t> Reaper::Run() {
  uint64_t freed_in_all = 0;
  while (true) {
    const absl::Status removed = RemoveUnnamedLayers();
    COWL_ASSIGN_OR_RETURN(const uint64_t freed_bytes, ReclaimNoted());
    freed_in_all += freed_bytes;
    cut_short_ = !removed.ok();
    if (removed.ok()) return freed_in_all;
    // What came back may be what a full disk lacked.
    if (!absl::IsResourceExhausted(removed) || freed_bytes == 0) return removed;
  }
}

// A layer that cannot be merged away, because a map is damaged or the disk is full, must not keep
// the space of the others: the first failure is told when all have been tried.
absl::Status Reaper::RemoveUnnamedLayers() {
  std::unordered_set<Uuid> skipped;
  absl::Status failed;
  while (true) {
    COWL_ASSIGN_OR_RETURN(const std::optional<Job> job, NextJob(skipped));
    if (!job) return failed;
    const absl::Status status = Do(*job);
    if (!status.ok()) skipped.insert(job->layer.id);
    failed.Update(status);
  }
}

// Readers outside the store open the layers below a pin one by one, by the list they were given:
// that list must stay true.
absl::StatusOr<std::unordered_set<Uuid>> Reaper::Untouchable(CatalogQueries& queries) {
  std::unordered_set<Uuid> layers;
  COWL_ASSIGN_OR_RETURN(const std::vector<PinRow> pins, queries.Pins());
  for (const PinRow& pin : pins) {
    COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> chain, queries.Chain(pin.layer));
    for (const LayerRow& layer : chain) layers.insert(layer.id);
  }
  return layers;
}

absl::StatusOr<std::optional<Reaper::Job>> Reaper::NextJob(
    const std::unordered_set<Uuid>& skipped) {
  std::optional<Job> job;
  const absl::Status status = catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> unnamed, queries.UnnamedLayers());
    if (unnamed.empty()) return absl::OkStatus();
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> untouchable, Untouchable(queries));
    // The newest first: deleting a chain from its top downwards merges nothing.
    for (auto id = unnamed.rbegin(); id != unnamed.rend(); ++id) {
      if (skipped.contains(*id) || untouchable.contains(*id) || held_.IsHeld(*id)) continue;
      COWL_ASSIGN_OR_RETURN(LayerRow layer, queries.FindLayer(*id));
      COWL_ASSIGN_OR_RETURN(std::vector<LayerRow> children, queries.Children(*id));
      job = Job{std::move(layer), std::move(children)};
      if (job->children.empty()) return absl::OkStatus();
    }
    return absl::OkStatus();
  });
  COWL_RETURN_IF_ERROR(status);
  return job;
}

absl::Status Reaper::Do(const Job& job) {
  std::unique_lock lock(files_mutex_);
  // Somebody may have come to hold it, or to pin it, before the lock was ours.
  bool is_pinned = false;
  COWL_RETURN_IF_ERROR(catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> untouchable, Untouchable(queries));
    is_pinned = untouchable.contains(job.layer.id);
    return absl::OkStatus();
  }));
  if (is_pinned || held_.IsHeld(job.layer.id)) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  std::vector<LayerRow> changed;
  std::vector<std::vector<Uuid>> files;
  std::set<Uuid> diminished;
  COWL_RETURN_IF_ERROR(RewriteChildren(*slot, job, &changed, &files, &diminished));
  const absl::Status status = catalog_.Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(std::set<Uuid> noted, NotedFiles(edits));
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> own, edits.FilesOf(job.layer.id));
    // What a merge leaves unnamed, its maps tell; after a deletion it may be anything.
    for (const Uuid& file : own) {
      if (job.children.empty() || diminished.contains(file)) noted.insert(file);
    }
    noted.insert(job.layer.id);
    for (size_t i = 0; i < changed.size(); ++i) {
      COWL_RETURN_IF_ERROR(edits.UpdateLayer(changed[i], files[i]));
      if (cut_short_) noted.insert(changed[i].id);
    }
    COWL_RETURN_IF_ERROR(
        edits.RemoveLayer(job.layer.id));  // refused when somebody builds on it by now
    return NoteFiles(edits, noted);
  });
  chains_.Forget(job.layer.id);
  if (status.ok() && !job.children.empty()) deleted_.push_back(job.layer.id);
  if (status.ok() && job.children.empty()) bereaved_.insert(job.layer.parent);
  return status;
}

absl::Status Reaper::RewriteChildren(LoopSlot& slot, const Job& job, std::vector<LayerRow>* changed,
                                     std::vector<std::vector<Uuid>>* files,
                                     std::set<Uuid>* diminished) {
  if (job.children.empty()) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(const auto parent, LoadLayerMaps(slot, {job.layer}));
  for (const LayerRow& child : job.children) {
    COWL_ASSIGN_OR_RETURN(const auto map, LoadLayerMaps(slot, {child}));
    FileMap merged = MergeParentInto(*map[0], *parent[0]);
    AddDiminished(map[0]->map, parent[0]->map, merged, diminished);
    LayerRow row = child;
    row.parent = job.layer.parent;
    row.stored_bytes = BlockOffsetBytes(merged.extents.DataBlocks());
    changed->push_back(std::move(row));
    files->push_back(merged.files);
    COWL_RETURN_IF_ERROR(RunOn(slot.loop(), RewriteMap(*slot.storage, DataFileName(child.id),
                                                       std::move(merged), job.layer.parent)));
  }
  return absl::OkStatus();
}

absl::Status Reaper::NoteForReclaim(CatalogEdits& edits, const Uuid& file) {
  COWL_ASSIGN_OR_RETURN(std::set<Uuid> noted, NotedFiles(edits));
  noted.insert(file);
  return NoteFiles(edits, noted);
}

absl::StatusOr<uint64_t> Reaper::ReclaimNoted() {
  std::set<Uuid> noted;
  COWL_RETURN_IF_ERROR(catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(noted, NotedFiles(queries));
    return absl::OkStatus();
  }));
  if (noted.empty()) return 0;
  uint64_t freed_bytes = 0;
  absl::Status failed;
  std::set<Uuid> done;
  for (const Uuid& file : noted) {
    const absl::StatusOr<uint64_t> bytes = Reclaim(file);
    if (bytes.ok()) {
      freed_bytes += *bytes;
      done.insert(file);
    } else {
      failed.Update(bytes.status());  // it stays noted
    }
  }
  COWL_RETURN_IF_ERROR(catalog_.Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(std::set<Uuid> left, NotedFiles(edits));
    for (const Uuid& file : done) left.erase(file);
    return NoteFiles(edits, left);
  }));
  if (!failed.ok()) return failed;
  return freed_bytes;
}

// Removes the file when no row names it, else punches what no map names.
absl::StatusOr<uint64_t> Reaper::Reclaim(const Uuid& file) {
  bool is_named = false;
  COWL_RETURN_IF_ERROR(catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(is_named, queries.IsNamedFile(file));
    return absl::OkStatus();
  }));
  if (is_named) {
    COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
    return PunchFile(*slot, file);
  }
  const std::string path = paths_.DataFile(file);
  const uint64_t bytes = DiskBytesOf(path);
  COWL_RETURN_IF_ERROR(RemovePath(path));
  return bytes;
}

absl::StatusOr<bool> Reaper::IsNoted(CatalogQueries& queries, const Uuid& file) {
  COWL_ASSIGN_OR_RETURN(const std::set<Uuid> noted, NotedFiles(queries));
  return noted.contains(file);
}

absl::StatusOr<std::set<Uuid>> Reaper::DueFiles(CatalogQueries& queries) {
  COWL_ASSIGN_OR_RETURN(std::set<Uuid> files, NotedFiles(queries));
  COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> unnamed, queries.UnnamedLayers());
  for (const Uuid& id : unnamed) {
    files.insert(id);
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> own, queries.FilesOf(id));
    files.insert(own.begin(), own.end());
    COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> children, queries.Children(id));
    for (const LayerRow& child : children) files.insert(child.id);
  }
  return files;
}

absl::StatusOr<Reaper::Users> Reaper::UsersOf(LoopSlot& slot, const Uuid& file) {
  Users users;
  COWL_RETURN_IF_ERROR(catalog_.Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> ids, queries.LayersUsing(file));
    for (const Uuid& id : ids) {
      COWL_ASSIGN_OR_RETURN(LayerRow layer, queries.FindLayer(id));
      users.rows.push_back(std::move(layer));
    }
    return absl::OkStatus();
  }));
  COWL_ASSIGN_OR_RETURN(users.maps, LoadLayerMaps(slot, users.rows));
  return users;
}

BlockRanges Reaper::LiveIn(const Users& users, const Uuid& file) {
  BlockRanges live;
  for (const auto& map : users.maps) {
    const BlockRanges ranges = RangesIn(map->map, file);
    live.insert(live.end(), ranges.begin(), ranges.end());
  }
  return Normalized(std::move(live));
}

absl::StatusOr<std::optional<BlockRanges>> Reaper::LiveBlocks(LoopSlot& slot, const Uuid& file) {
  COWL_ASSIGN_OR_RETURN(const Users users, UsersOf(slot, file));
  if (users.rows.empty()) return std::nullopt;
  return LiveIn(users, file);
}

// A crash may have come between a map that lost blocks and its row (hidden_space.cc).
absl::Status Reaper::MendRows(const Users& users) {
  for (size_t i = 0; i < users.rows.size(); ++i) {
    LayerRow row = users.rows[i];
    row.stored_bytes = BlockOffsetBytes(users.maps[i]->map.extents.DataBlocks());
    if (row.stored_bytes == users.rows[i].stored_bytes ||
        users.maps[i]->superblock.parent != row.parent)
      continue;
    COWL_RETURN_IF_ERROR(catalog_.Write(
        [&](CatalogEdits& edits) { return edits.UpdateLayer(row, users.maps[i]->map.files); }));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Reaper::PunchFile(LoopSlot& slot, const Uuid& file) {
  // While nobody rewrites a map: what is live now is all that ever will be.
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(const Users users, UsersOf(slot, file));
  if (users.rows.empty()) return 0;  // an overlay's file: its slots are its own business
  COWL_RETURN_IF_ERROR(MendRows(users));
  lock.unlock();
  return RunOn(slot.loop(), PunchDead(*slot.storage, DataFileName(file), LiveIn(users, file)));
}

}  // namespace cowl
