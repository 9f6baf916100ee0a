// lists.cc: images, devices, inspect and tree: reports from the catalog, and from overlays where
// their content is counted.
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "overlay/overlay.h"
#include "store/disk.h"
#include "store/layer_index.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

absl::StatusOr<ImageInfo> Describe(const ImageRow& image, const LayerIndex& layers) {
  ImageInfo info;
  info.name = image.name;
  info.tag = image.tag;
  info.layer = image.layer.ToString();
  info.created_ns = image.created_ns;
  COWL_ASSIGN_OR_RETURN(const std::vector<const LayerRow*> chain, layers.Chain(image.layer));
  if (!chain.empty()) info.size_bytes = chain.front()->size_bytes;
  info.layer_count = static_cast<int>(chain.size());
  for (const LayerRow* layer : chain) info.stored_bytes += layer->stored_bytes;
  return info;
}

struct Counted {
  bool exact = false;  // a superblock of a file that was closed in order
  uint64_t stored_blocks = 0;
};

Task<absl::StatusOr<Counted>> CountFromSuperblock(Storage& storage, Uuid overlay) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(DataFileName(overlay), OpenMode::kRead);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(**file);
  if (!superblock.ok()) co_return superblock.status();
  const bool exact = superblock->clean || superblock->kind == DataFileKind::kLayer;
  co_return Counted{exact, superblock->stored_blocks};
}

Task<absl::StatusOr<uint64_t>> CountByReplay(LoopSlot& slot, Uuid overlay) {
  auto opened = co_await Overlay::Open(slot.loop(), *slot.storage, overlay, OpenMode::kRead, false);
  if (!opened.ok()) co_return opened.status();
  co_return (*opened)->stored_blocks();
}

Task<absl::StatusOr<uint64_t>> CountOpen(CowDevice& device) { co_return device.stored_blocks(); }

}  // namespace

absl::StatusOr<uint64_t> StoreImpl::OverlayBytes(const DeviceRow& row) {
  const std::shared_ptr<DeviceEntry> entry = devices_.Find(row.name);
  if (entry != nullptr) {
    // Waits for a verb that works on it; that is short.
    std::lock_guard gate(entry->gate);
    if (const std::shared_ptr<Disk> disk = entry->disk; disk != nullptr && disk->cow != nullptr) {
      COWL_ASSIGN_OR_RETURN(const uint64_t blocks,
                            RunOn(disk->slot->loop(), CountOpen(*disk->cow)));
      return BlockOffsetBytes(blocks);
    }
  }
  if (!row.overlay_written) return 0;
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  COWL_ASSIGN_OR_RETURN(const Counted counted,
                        RunOn(slot->loop(), CountFromSuperblock(*slot->storage, row.overlay)));
  if (counted.exact) return BlockOffsetBytes(counted.stored_blocks);
  COWL_ASSIGN_OR_RETURN(const uint64_t blocks,
                        RunOn(slot->loop(), CountByReplay(*slot, row.overlay)));
  return BlockOffsetBytes(blocks);
}

DeviceInfo StoreImpl::DescribeDevice(const DeviceRow& row, const Below& below) {
  DeviceInfo info = InfoOf(row);
  if (const std::shared_ptr<DeviceEntry> entry = devices_.Find(row.name))
    info.users = entry->users.Clients();
  if (row.kind == DeviceRow::Kind::kVolume) {
    info.disk_bytes = DiskBytesOf(absl::StrCat(paths_.Of(kVolumesFolder), "/", row.volume_file));
    info.stored_bytes = info.disk_bytes;
    return info;
  }
  info.disk_bytes = DiskBytesOf(paths_.DataFile(row.overlay));
  for (const Uuid& file : below.files) info.disk_bytes += DiskBytesOf(paths_.DataFile(file));
  const absl::StatusOr<uint64_t> bytes = OverlayBytes(row);
  // A list must not fail because one overlay is damaged: `check` says what is wrong with it.
  if (!bytes.ok()) Warn(absl::StrCat("device ", row.name), bytes.status());
  info.stored_bytes = below.stored_bytes + bytes.value_or(0);
  return info;
}

absl::StatusOr<std::vector<ImageInfo>> StoreImpl::Images() {
  return Read<std::vector<ImageInfo>>(
      [](CatalogQueries& queries) -> absl::StatusOr<std::vector<ImageInfo>> {
        COWL_ASSIGN_OR_RETURN(const LayerIndex layers, LayerIndex::Load(queries));
        COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> rows, queries.Images());
        std::vector<ImageInfo> images;
        for (const ImageRow& row : rows) {
          COWL_ASSIGN_OR_RETURN(ImageInfo info, Describe(row, layers));
          images.push_back(std::move(info));
        }
        return images;
      });
}

absl::StatusOr<ImageInfo> StoreImpl::FindImageInfo(const ImageName& name) {
  return Read<ImageInfo>([&](CatalogQueries& queries) -> absl::StatusOr<ImageInfo> {
    COWL_ASSIGN_OR_RETURN(const ImageRow row, queries.FindImage(name.name, name.tag));
    COWL_ASSIGN_OR_RETURN(const LayerIndex layers, LayerIndex::Load(queries));
    return Describe(row, layers);
  });
}

// The image a device says it comes from, as long as that name still means the layer; else another
// name of that layer, or none.
absl::StatusOr<std::string> StoreImpl::OriginOf(CatalogQueries& queries, const DeviceRow& row) {
  if (row.image_layer.IsNil()) return std::string();
  COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> images, queries.ImagesOn(row.image_layer));
  for (const ImageRow& image : images) {
    if (image.ToString() == row.image) return row.image;
  }
  return images.empty() ? std::string() : images.front().ToString();
}

absl::StatusOr<std::vector<DeviceInfo>> StoreImpl::Devices() {
  std::vector<DeviceRow> rows;
  std::vector<Below> below;
  COWL_RETURN_IF_ERROR(catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(rows, queries.Devices());
    for (DeviceRow& row : rows) {
      COWL_ASSIGN_OR_RETURN(row.image, OriginOf(queries, row));
      COWL_ASSIGN_OR_RETURN(below.emplace_back(), WhatIsBelow(queries, row));
    }
    return absl::OkStatus();
  }));
  std::vector<DeviceInfo> devices;
  for (size_t i = 0; i < rows.size(); ++i) devices.push_back(DescribeDevice(rows[i], below[i]));
  return devices;
}

absl::StatusOr<InspectInfo> StoreImpl::Inspect(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const Named named, Resolve(name));
  InspectInfo info;
  Uuid top;
  if (named.device) {
    const DeviceRow& row = *named.device;
    info.kind = row.kind == DeviceRow::Kind::kVolume ? InspectInfo::Kind::kVolume
                                                     : InspectInfo::Kind::kOverlay;
    info.name = row.name;
    info.size_bytes = row.size_bytes;
    info.cap_bytes = row.cap_bytes;
    COWL_ASSIGN_OR_RETURN(info.image, Read<std::string>([&](CatalogQueries& queries) {
                            return OriginOf(queries, row);
                          }));
    top = row.base_layer;
    if (row.kind == DeviceRow::Kind::kVolume) {
      info.overlay_path = absl::StrCat(paths_.Of(kVolumesFolder), "/", row.volume_file);
    } else if (row.overlay_written) {
      info.overlay_path = paths_.DataFile(row.overlay);
    }
  } else {
    info.name = named.image->ToString();
    top = named.image->layer;
  }
  COWL_ASSIGN_OR_RETURN(
      const std::vector<LayerRow> chain,
      Read<std::vector<LayerRow>>([&](CatalogQueries& queries) { return queries.Chain(top); }));
  if (named.image && !chain.empty()) info.size_bytes = chain.front().size_bytes;
  for (const LayerRow& layer : chain) info.layers.push_back(LayerInfoOf(layer));
  return info;
}

absl::StatusOr<std::vector<TreeNode>> StoreImpl::Tree() {
  return Read<std::vector<TreeNode>>([](CatalogQueries& queries)
                                         -> absl::StatusOr<std::vector<TreeNode>> {
    const auto id_of = [](const Uuid& id) { return id.IsNil() ? std::string() : id.ToString(); };
    std::vector<TreeNode> nodes;
    COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> layers, queries.Layers());
    for (const LayerRow& row : layers)
      nodes.push_back({id_of(row.id), TreeNode::Kind::kLayer, row.created_by, id_of(row.parent)});
    COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> images, queries.Images());
    for (const ImageRow& row : images)
      nodes.push_back({row.ToString(), TreeNode::Kind::kImage, row.ToString(), id_of(row.layer)});
    COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> devices, queries.Devices());
    for (const DeviceRow& row : devices)
      nodes.push_back({row.name, TreeNode::Kind::kDevice, row.name, id_of(row.base_layer)});
    return nodes;
  });
}

}  // namespace cowl
