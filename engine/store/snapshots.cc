// snapshots.cc: the verbs that seal a device: snapshot, commit, clone, freeze.
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "store/disk.h"
#include "store/owner.h"
#include "store/store_impl.h"

namespace cowl {

absl::StatusOr<SealInfo> StoreImpl::Snapshot(const std::string& name, const std::string& image,
                                             bool force) {
  COWL_ASSIGN_OR_RETURN(const ImageName to, ParseImageName(image));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, sealer_.LockOverlay(name, "snapshotted"));
  COWL_RETURN_IF_ERROR(CheckFree(image, force));
  COWL_ASSIGN_OR_RETURN(
      const Sealer::Sealed sealed,
      sealer_.Seal(
          device, absl::StrCat("snapshot of ", name),
          [&](CatalogEdits& edits, const DeviceRow& row, const Uuid& layer) -> absl::Status {
            COWL_RETURN_IF_ERROR(edits.PutImage({to.name, to.tag, layer, NowNs()}, force));
            DeviceRow now = row;
            now.image = to.ToString();
            now.image_layer = layer;
            return edits.UpdateDevice(now);
          }));
  device.gate.unlock();
  ReapSoon();
  return SealInfo{to.ToString(), sealed.layer.ToString(), sealed.pause_us};
}

absl::StatusOr<SealInfo> StoreImpl::Commit(const std::string& name, const std::string& image,
                                           bool force) {
  COWL_ASSIGN_OR_RETURN(const ImageName to, ParseImageName(image));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, sealer_.LockOverlay(name, "committed"));
  COWL_RETURN_IF_ERROR(CheckFree(image, force));
  COWL_RETURN_IF_ERROR(RequireUnused(device, force));
  COWL_RETURN_IF_ERROR(CloseDisk(*device.entry));
  COWL_ASSIGN_OR_RETURN(device.row, Read<DeviceRow>([&](CatalogQueries& queries) {
                          return queries.FindDevice(name);
                        }));
  const Uuid old_overlay = device.row.overlay;
  COWL_ASSIGN_OR_RETURN(
      const Sealer::Sealed sealed,
      sealer_.Seal(
          device, absl::StrCat("commit of ", name),
          [&](CatalogEdits& edits, const DeviceRow& row, const Uuid& layer) -> absl::Status {
            COWL_RETURN_IF_ERROR(edits.PutImage({to.name, to.tag, layer, NowNs()}, force));
            return edits.RemoveDevice(row.name);
          }));
  devices_.Erase(name);
  if (sealed.layer != old_overlay) RemoveDataFile(old_overlay);
  device.gate.unlock();
  ReapAndWait();
  return SealInfo{to.ToString(), sealed.layer.ToString(), 0};
}

absl::StatusOr<DeviceInfo> StoreImpl::Clone(const std::string& source, const std::string& name) {
  if (!name.empty()) COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, sealer_.LockOverlay(source, "cloned"));
  if (!name.empty())
    COWL_RETURN_IF_ERROR(
        catalog_->Read([&](CatalogQueries& queries) { return queries.CheckDeviceFree(name); }));
  DeviceInfo info;
  COWL_RETURN_IF_ERROR(
      sealer_
          .SealState(
              device, absl::StrCat("clone of ", source),
              [&](CatalogEdits& edits, const DeviceRow& row, const Uuid& layer) -> absl::Status {
                DeviceRow clone = row;
                clone.name = name;
                if (name.empty()) {
                  COWL_ASSIGN_OR_RETURN(clone.name, NumberedName(edits, source));
                }
                clone.base_layer = layer;
                clone.overlay = Uuid::Random();
                clone.overlay_written = false;
                clone.pending_overlay = {};
                clone.created_ns = NowNs();
                info = InfoOf(clone);
                return edits.AddDevice(clone);
              })
          .status());
  device.gate.unlock();
  ReapSoon();
  return info;
}

absl::StatusOr<FrozenView> StoreImpl::Freeze(const std::string& name, int reader_pid) {
  COWL_ASSIGN_OR_RETURN(const Named named, Resolve(name));
  COWL_ASSIGN_OR_RETURN(FrozenView view, FreezeNamed(name, named, reader_pid));
  if (named.image && view.layers.size() > 1) view.origin_layer = view.layers[1].id;
  if (named.device && !named.device->image_layer.IsNil())
    view.origin_layer = named.device->image_layer.ToString();
  return view;
}

absl::StatusOr<FrozenView> StoreImpl::FreezeNamed(const std::string& name, const Named& named,
                                                  int reader_pid) {
  const std::string token = Uuid::Random().ToString();
  const auto pin = [&](CatalogEdits& edits, const Uuid& layer) {
    return edits.AddPin({token, layer, OwnerOf(reader_pid), NowNs()});
  };
  if (named.image) {
    const Uuid layer = named.image->layer;
    // For reading only: nobody can delete the layer while this store is open.
    if (options_.read_only) return ViewOf(layer, 0, "");
    // Nobody merges a layer of the chain away between the pin and the list.
    std::shared_lock lock(files_mutex_);
    COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) { return pin(edits, layer); }));
    return ViewOf(layer, 0, token);
  }
  if (named.device->kind == DeviceRow::Kind::kVolume) {
    if (!options_.read_only) COWL_RETURN_IF_ERROR(CloseUnused(name));
    return ViewOfVolume(*named.device);
  }
  if (options_.read_only) return ViewOfUnwritten(*named.device);
  COWL_ASSIGN_OR_RETURN(LockedDevice device, sealer_.LockOverlay(name, "frozen"));
  COWL_ASSIGN_OR_RETURN(
      const Sealer::Sealed sealed,
      sealer_.SealState(device, absl::StrCat("frozen state of ", name),
                        [&](CatalogEdits& edits, const DeviceRow&, const Uuid& layer) {
                          return layer.IsNil() ? absl::OkStatus() : pin(edits, layer);
                        }));
  if (sealed.layer.IsNil()) {
    FrozenView empty;
    empty.size_bytes = device.row.size_bytes;
    return empty;
  }
  // A merge that began before the pin ends first; later ones leave the chain alone.
  std::shared_lock lock(files_mutex_);
  return ViewOf(sealed.layer, device.row.size_bytes, token);
}

// In a store that cannot be written to: nothing can be sealed, and nothing need be.
absl::StatusOr<FrozenView> StoreImpl::ViewOfUnwritten(const DeviceRow& row) {
  if (row.overlay_written || !row.pending_overlay.IsNil()) {
    return FailedPrecondition(
        absl::StrCat("device ", row.name,
                     ": freezing what was written to it takes a store that can be written, "
                     "and ",
                     paths_.root, " cannot: copy the store, or become its owner"));
  }
  if (!row.base_layer.IsNil()) return ViewOf(row.base_layer, row.size_bytes, "");
  FrozenView empty;
  empty.size_bytes = row.size_bytes;
  return empty;
}

FrozenView StoreImpl::ViewOfVolume(const DeviceRow& row) const {
  FrozenView view;
  view.size_bytes = row.size_bytes;
  view.volume_path = paths_.Of(absl::StrCat(kVolumesFolder, "/", row.volume_file));
  return view;
}

absl::StatusOr<FrozenView> StoreImpl::ViewOf(const Uuid& top, uint64_t size_bytes,
                                             const std::string& token) {
  FrozenView view;
  view.token = token;
  COWL_ASSIGN_OR_RETURN(
      const std::vector<LayerRow> chain,
      Read<std::vector<LayerRow>>([&](CatalogQueries& queries) { return queries.Chain(top); }));
  view.size_bytes = size_bytes != 0 ? size_bytes : chain.front().size_bytes;
  for (const LayerRow& layer : chain) view.layers.push_back(LayerInfoOf(layer));
  return view;
}

absl::Status StoreImpl::Release(const std::string& token) {
  if (token.empty()) return absl::OkStatus();
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<PinRow> pins, edits.Pins());
    for (const PinRow& pin : pins) {
      if (pin.token == token) hidden_.LostReader(pin.layer);
    }
    return edits.RemovePin(token);
  }));
  ReapAndWait();
  return absl::OkStatus();
}

}  // namespace cowl
