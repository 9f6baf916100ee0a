// layers.cc: the verbs that make layers otherwise than from a device: registering an import,
// flattening.
#include <filesystem>
#include <shared_mutex>
#include <span>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "store/disk.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

namespace fs = std::filesystem;

// The staged file's name below the store's directory. It must lie in the staging folder itself.
absl::StatusOr<std::string> StagedName(const StorePaths& paths, const std::string& path) {
  const fs::path given = fs::path(path).lexically_normal();
  if (given.parent_path() != fs::path(paths.Of(kStagingFolder)) || !given.has_filename()) {
    return InvalidArgument(
        absl::StrCat(path, ": is not in the staging folder of store ", paths.root));
  }
  return absl::StrCat(kStagingFolder, "/", given.filename().string());
}

absl::Status CheckStaged(const LayerMap& map, const Uuid& parent, const std::string& path) {
  const Superblock& superblock = map.superblock;
  if (superblock.parent != parent) {
    return FailedPrecondition(
        absl::StrCat(path, ": was made on another parent layer than it is to be registered on"));
  }
  if (map.map.files.size() != 1)
    return FailedPrecondition(absl::StrCat(path, ": refers to data of other layers"));
  const std::span<const Extent> extents = map.map.extents.extents();
  if (!extents.empty() && extents.back().end() > BlocksCeil(superblock.size_bytes))
    return DataLoss(absl::StrCat(path, ": map: goes on beyond the end of the disk"));
  return absl::OkStatus();
}

// A layer that is smaller than what it lies on hides what lies beyond its end, so that growing
// later shows zeros there.
FileMap HidingTail(const FileMap& map, uint64_t size_bytes, uint64_t parent_bytes) {
  ExtentArrayBuilder builder;
  for (const Extent& extent : map.extents.extents()) {
    builder.Add({extent.start(), extent.length(),
                 extent.is_data() ? Segment::Kind::kData : Segment::Kind::kZero, 0,
                 extent.physical()});
  }
  const uint64_t begin = BlocksCeil(size_bytes);
  builder.Add({begin, BlocksCeil(parent_bytes) - begin, Segment::Kind::kZero, 0, 0});
  return {builder.Build(), map.files};
}

}  // namespace

LayerInfo StoreImpl::LayerInfoOf(const LayerRow& row) const {
  LayerInfo info;
  info.id = row.id.ToString();
  info.path = paths_.DataFile(row.id);
  info.created_by = row.created_by;
  info.size_bytes = row.size_bytes;
  info.stored_bytes = row.stored_bytes;
  info.created_ns = row.created_ns;
  return info;
}

absl::StatusOr<ImageInfo> StoreImpl::Register(const std::string& image, const StagedLayer& staged,
                                              bool force) {
  COWL_RETURN_IF_ERROR(CheckFree(image, force));
  COWL_ASSIGN_OR_RETURN(const ImageName to, ParseImageName(image));
  COWL_ASSIGN_OR_RETURN(const std::string name, StagedName(paths_, staged.path));
  const std::optional<Uuid> parent = staged.parent.empty() ? Uuid{} : Uuid::Parse(staged.parent);
  if (!parent)
    return InvalidArgument(
        absl::StrCat("parent layer ", Quoted(staged.parent), ": is no layer id"));
  std::shared_lock lock(files_mutex_);  // no row names the file yet
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  COWL_ASSIGN_OR_RETURN(const auto map, RunOn(slot->loop(), LoadLayerMap(*slot->storage, name)));
  COWL_RETURN_IF_ERROR(CheckStaged(*map, *parent, staged.path));
  const Uuid id = map->superblock.id;
  if (PathExists(paths_.DataFile(id)))
    return AlreadyExists(absl::StrCat("layer ", id.ToString(), ": is in this store already"));
  if (!parent->IsNil()) {
    COWL_ASSIGN_OR_RETURN(const LayerRow below, Read<LayerRow>([&](CatalogQueries& queries) {
                            return queries.FindLayer(*parent);
                          }));
    if (BlocksCeil(below.size_bytes) > BlocksCeil(map->superblock.size_bytes)) {
      FileMap hiding = HidingTail(map->map, map->superblock.size_bytes, below.size_bytes);
      COWL_RETURN_IF_ERROR(
          RunOn(slot->loop(), RewriteMap(*slot->storage, name, std::move(hiding), *parent)));
    }
  }
  COWL_RETURN_IF_ERROR(RenamePath(staged.path, paths_.DataFile(id)));
  const absl::Status status = AdoptLayer(*slot, to, id, *parent, staged.created_by, force);
  if (!status.ok()) {
    RenamePath(paths_.DataFile(id), staged.path).IgnoreError();  // as if nothing had been asked
    return status;
  }
  lock.unlock();
  ReapAndWait();
  return FindImageInfo(to);
}

absl::Status StoreImpl::AdoptLayer(LoopSlot& slot, const ImageName& image, const Uuid& id,
                                   const Uuid& parent, const std::string& created_by, bool force) {
  COWL_RETURN_IF_ERROR(SyncPath(paths_.Of(kLayersFolder)));
  COWL_RETURN_IF_ERROR(SyncPath(paths_.Of(kStagingFolder)));
  COWL_ASSIGN_OR_RETURN(Sealer::NewLayerRow layer, sealer_.DescribeLayer(slot, id, parent, Uuid{}));
  if (!created_by.empty()) layer.row.created_by = created_by;
  return catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_RETURN_IF_ERROR(edits.AddLayer(layer.row, layer.files));
    return edits.PutImage({image.name, image.tag, id, NowNs()}, force);
  });
}

absl::StatusOr<SealInfo> StoreImpl::Flatten(const std::string& image, const std::string& new_image,
                                            bool force, const Progress& progress) {
  COWL_RETURN_IF_ERROR(CheckFree(new_image, force));
  COWL_ASSIGN_OR_RETURN(const ImageName to, ParseImageName(new_image));
  std::shared_lock lock(
      files_mutex_);  // the chain stays as it is, and no row names the new file yet
  COWL_ASSIGN_OR_RETURN(const ImageRow from, FindImage(image));
  COWL_ASSIGN_OR_RETURN(const LayerRow top, Read<LayerRow>([&](CatalogQueries& queries) {
                          return queries.FindLayer(from.layer);
                        }));
  if (top.parent.IsNil()) {
    lock.unlock();
    COWL_RETURN_IF_ERROR(Tag(image, new_image, force));
    return SealInfo{to.ToString(), top.id.ToString(), 0};
  }
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  COWL_ASSIGN_OR_RETURN(const std::shared_ptr<const ChainMap> chain, LoadChain(*slot, from.layer));
  const NewLayer layer{Uuid::Random(), Uuid{}, top.size_bytes,
                       absl::StrCat("flatten of ", from.ToString())};
  const uint64_t total_bytes = BlockOffsetBytes(chain->extents.DataBlocks());
  absl::Status status =
      RunOn(slot->loop(), WriteMapOnlyLayer(*slot->storage, layer, MapOfChain(*chain, layer.id)));
  if (status.ok() && progress && !progress(total_bytes, total_bytes))
    status = absl::CancelledError("stopped before it was complete; nothing was kept");
  if (status.ok()) status = AdoptLayer(*slot, to, layer.id, Uuid{}, "", force);
  if (!status.ok()) {
    RemoveDataFile(layer.id);
    return status;
  }
  lock.unlock();
  ReapAndWait();
  return SealInfo{to.ToString(), layer.id.ToString(), 0};
}

}  // namespace cowl
