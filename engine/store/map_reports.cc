// map_reports.cc: map, diff and history: reports made from the maps of layers and overlays.
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "overlay/overlay.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

Task<absl::StatusOr<ExtentArray>> MapOfOpen(CowDevice& device) {
  if (!device.has_overlay()) co_return ExtentArray();
  if (device.is_sealing())
    co_return Unavailable("a snapshot of the device has not been finished; try again");
  co_return device.overlay()->FlatMap();
}

Task<absl::StatusOr<ExtentArray>> MapOfClosed(LoopSlot& slot, Uuid overlay) {
  auto opened = co_await Overlay::Open(slot.loop(), *slot.storage, overlay, OpenMode::kRead, false);
  if (!opened.ok()) co_return opened.status();
  co_return (*opened)->FlatMap();
}

}  // namespace

absl::StatusOr<DiskMap> StoreImpl::MapOfChainAt(LoopSlot& slot, const Uuid& top,
                                                uint64_t size_bytes, uint32_t top_depth) {
  COWL_ASSIGN_OR_RETURN(const std::shared_ptr<const ChainMap> chain, LoadChain(slot, top));
  return MakeDiskMap(*chain, top_depth, nullptr, {}, size_bytes);
}

absl::StatusOr<DiskMap> StoreImpl::MapOf(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const Named named, Resolve(name));
  if (named.device) return MapOfDevice(name);
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  COWL_ASSIGN_OR_RETURN(const LayerRow top, Read<LayerRow>([&](CatalogQueries& queries) {
                          return queries.FindLayer(named.image->layer);
                        }));
  return MapOfChainAt(*slot, top.id, top.size_bytes, 1);
}

absl::StatusOr<DiskMap> StoreImpl::MapOfDevice(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(LockedDevice device, LockDevice(name));
  const DeviceRow& row = device.row;
  COWL_RETURN_IF_ERROR(RequireOverlay(row, "looked into block by block"));
  const std::shared_ptr<Disk> disk = device.entry->disk;
  if (disk == nullptr && !row.pending_overlay.IsNil()) {
    return FailedPrecondition(
        absl::StrCat("device ", name,
                     ": a crash cut a snapshot of it short; any command that changes the store "
                     "mends that first"));
  }
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  COWL_ASSIGN_OR_RETURN(const std::shared_ptr<const ChainMap> chain,
                        LoadChain(*slot, row.base_layer));
  absl::StatusOr<ExtentArray> overlay = ExtentArray();
  if (disk != nullptr) {
    overlay = RunOn(disk->slot->loop(), MapOfOpen(*disk->cow));
  } else if (row.overlay_written) {
    overlay = RunOn(slot->loop(), MapOfClosed(*slot, row.overlay));
  }
  if (!overlay.ok()) return overlay.status();
  return MakeDiskMap(*chain, 2, &*overlay, row.overlay, row.size_bytes);
}

// What diff compares with when it is not told: a device's image, an image's chain without its top
// layer.
absl::StatusOr<DiskMap> StoreImpl::MapOfOrigin(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const Named named, Resolve(name));
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  Uuid origin = named.device ? named.device->image_layer : Uuid{};
  uint64_t size_bytes = named.device ? named.device->size_bytes : 0;
  COWL_RETURN_IF_ERROR(catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    if (!named.image) return absl::OkStatus();
    COWL_ASSIGN_OR_RETURN(const LayerRow top, queries.FindLayer(named.image->layer));
    origin = top.parent;
    size_bytes = top.size_bytes;
    return absl::OkStatus();
  }));
  return MapOfChainAt(*slot, origin, size_bytes, 1);
}

absl::StatusOr<std::vector<MapEntry>> StoreImpl::Map(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const Named named, Resolve(name));
  // All of a volume is its own, as its clients are told, too.
  if (named.device && named.device->kind == DeviceRow::Kind::kVolume)
    return std::vector<MapEntry>{{0, named.device->size_bytes, false, 1, ""}};
  COWL_ASSIGN_OR_RETURN(const DiskMap map, MapOf(name));
  return MapEntriesOf(map);
}

absl::StatusOr<std::vector<DiffEntry>> StoreImpl::Diff(const std::string& a, const std::string& b) {
  // `b` first: what changes in between shows as a difference, and is not missed.
  COWL_ASSIGN_OR_RETURN(const DiskMap old_map, b.empty() ? MapOfOrigin(a) : MapOf(b));
  COWL_ASSIGN_OR_RETURN(const DiskMap new_map, MapOf(a));
  return DiffOf(new_map, old_map);
}

absl::StatusOr<std::vector<LayerInfo>> StoreImpl::History(const std::string& image) {
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(const ImageRow row, FindImage(image));
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> rows,
                        Read<std::vector<LayerRow>>(
                            [&](CatalogQueries& queries) { return queries.Chain(row.layer); }));
  COWL_ASSIGN_OR_RETURN(const std::shared_ptr<const ChainMap> chain, chains_.Load(*slot, rows));
  std::vector<uint64_t> visible_bytes(rows.size(), 0);
  for (const Extent& extent : chain->extents.extents()) {
    if (extent.is_data())
      visible_bytes[chain->sources[extent.source()].layer_index] +=
          BlockOffsetBytes(extent.length());
  }
  std::vector<LayerInfo> history;
  for (size_t i = 0; i < rows.size(); ++i) {
    LayerInfo info = LayerInfoOf(rows[i]);
    info.hidden_bytes =
        info.stored_bytes > visible_bytes[i] ? info.stored_bytes - visible_bytes[i] : 0;
    history.push_back(std::move(info));
  }
  return history;
}

}  // namespace cowl
