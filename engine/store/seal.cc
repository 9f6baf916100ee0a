// seal.cc: a device's overlay becomes a layer, by whichever of three ways its state asks for:
//
// - never written: nothing is there to seal, the layer below already is that state;
// - closed: the file is sealed in place; the device gets a fresh overlay, which has no file yet;
// - open: a successor overlay is made, durable and noted as pending before requests go to it; then
//   the old one is sealed while they do.
//
// The row of the device names both overlays from before the first step to the transaction that
// records the layer, so that recovery (recover.cc) can go forward or back from any moment.
#include <algorithm>
#include <shared_mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "overlay/overlay.h"
#include "store/disk.h"
#include "store/sealer.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

using OverlayOr = absl::StatusOr<std::unique_ptr<Overlay>>;

// REQUIRES: nobody has the file open.
Task<absl::Status> SealFile(LoopSlot& slot, const DeviceRow& row, std::string created_by) {
  OverlayOr overlay =
      co_await Overlay::Open(slot.loop(), *slot.storage, row.overlay, OpenMode::kReadWrite, false);
  if (!overlay.ok()) co_return overlay.status();
  co_return co_await (*overlay)->SealToLayer(row.size_bytes, row.base_layer, std::move(created_by));
}

// True when the device reads as its chain alone: no overlay, or one without a single entry.
Task<absl::StatusOr<bool>> HasNothingOfItsOwn(CowDevice& device) {
  if (!device.has_overlay()) co_return true;
  if (device.is_sealing() || device.overlay()->stored_blocks() > 0) co_return false;
  co_return device.overlay()->FlatMap().empty();
}

Task<absl::Status> SwitchOnLoop(LoopSlot& slot, CowDevice& device, Overlay::NewOptions options,
                                std::string layers_path, uint64_t* pause_us) {
  OverlayOr successor = co_await Overlay::Create(slot.loop(), *slot.storage, options);
  if (!successor.ok()) co_return successor.status();
  absl::Status synced;
  const std::function<void()> sync = [&] { synced = SyncPath(layers_path); };
  co_await Offload(slot.loop(), sync);
  if (!synced.ok()) co_return synced;
  absl::StatusOr<uint64_t> pause = co_await device.SwitchOverlay(*std::move(successor));
  if (!pause.ok()) co_return pause.status();
  *pause_us = *pause;
  co_return absl::OkStatus();
}

Task<absl::Status> InstallOnLoop(CowDevice& device, std::shared_ptr<const ChainMap> chain,
                                 DeviceCap cap) {
  device.InstallChain(std::move(chain));
  device.SetCap(std::move(cap));
  co_return absl::OkStatus();
}

// The map of `top` with those of the layers below it.
absl::StatusOr<FileMap> TakeIn(LoopSlot& slot, const LayerMap& top,
                               const std::vector<LayerRow>& below) {
  COWL_ASSIGN_OR_RETURN(const auto maps, LoadLayerMaps(slot, below));
  FileMap whole = top.map;
  for (const auto& map : maps) whole = MergeParentInto(LayerMap{{}, std::move(whole)}, *map);
  return whole;
}

Task<absl::StatusOr<bool>> IsSealing(CowDevice& device) { co_return device.is_sealing(); }

}  // namespace

absl::StatusOr<LockedDevice> Sealer::LockOverlay(const std::string& name, std::string_view verb) {
  COWL_RETURN_IF_ERROR(store_.RequireWritable());
  COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, store_.LockDevice(name));
  COWL_RETURN_IF_ERROR(RequireOverlay(device.row, verb));
  const std::shared_ptr<Disk> disk = device.entry->disk;
  if (disk != nullptr) {
    COWL_ASSIGN_OR_RETURN(const bool sealing, RunOn(disk->slot->loop(), IsSealing(*disk->cow)));
    if (sealing) COWL_RETURN_IF_ERROR(FinishSwitched(device, "snapshot", nullptr));
  } else if (!device.row.pending_overlay.IsNil()) {
    COWL_RETURN_IF_ERROR(RecoverPending(device.row));
  }
  COWL_ASSIGN_OR_RETURN(device.row, store_.Read<DeviceRow>([&](CatalogQueries& queries) {
    return queries.FindDevice(name);
  }));
  return device;
}

absl::StatusOr<bool> Sealer::IsUnwritten(LockedDevice& device) {
  const std::shared_ptr<Disk> disk = device.entry->disk;
  if (disk != nullptr) return RunOn(disk->slot->loop(), HasNothingOfItsOwn(*disk->cow));
  return !device.row.overlay_written;
}

absl::StatusOr<Sealer::Sealed> Sealer::Seal(LockedDevice& device, const std::string& created_by,
                                            const Registration& registration) {
  COWL_ASSIGN_OR_RETURN(const bool unwritten, IsUnwritten(device));
  if (unwritten) return SealUnwritten(device, created_by, registration);
  if (device.entry->disk != nullptr) return SealOpen(device, created_by, registration);
  return SealClosed(device, created_by, registration);
}

absl::StatusOr<Sealer::Sealed> Sealer::SealState(LockedDevice& device,
                                                 const std::string& created_by,
                                                 const Registration& registration) {
  COWL_ASSIGN_OR_RETURN(const bool unwritten, IsUnwritten(device));
  if (!unwritten) return Seal(device, created_by, registration);
  Sealed sealed;
  COWL_RETURN_IF_ERROR(store_.catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const DeviceRow row, edits.FindDevice(device.row.name));
    sealed.layer = row.base_layer;
    return registration(edits, row, row.base_layer);
  }));
  return sealed;
}

// The layer below is the state, where it has the right size; else a layer that adds nothing says
// so.
absl::StatusOr<Sealer::Sealed> Sealer::SealUnwritten(LockedDevice& device,
                                                     const std::string& created_by,
                                                     const Registration& registration) {
  const DeviceRow& row = device.row;
  if (!row.base_layer.IsNil()) {
    COWL_ASSIGN_OR_RETURN(const LayerRow base, store_.Read<LayerRow>([&](CatalogQueries& q) {
      return q.FindLayer(row.base_layer);
    }));
    if (base.size_bytes == row.size_bytes) {
      COWL_RETURN_IF_ERROR(store_.catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
        COWL_ASSIGN_OR_RETURN(const DeviceRow now, edits.FindDevice(row.name));
        return registration(edits, now, base.id);
      }));
      return Sealed{base.id, 0};
    }
  }
  std::shared_lock lock(store_.files_mutex_);  // no row names the new file yet
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, store_.loops_.Any());
  const NewLayer layer{Uuid::Random(), row.base_layer, row.size_bytes, created_by};
  absl::Status status =
      RunOn(slot->loop(), WriteMapOnlyLayer(*slot->storage, layer, FileMap{{}, {layer.id}}));
  if (status.ok()) status = SyncPath(store_.paths_.Of(kLayersFolder));
  if (status.ok()) status = RecordUnwritten(*slot, row, layer.id, registration);
  if (!status.ok()) {
    store_.RemoveDataFile(layer.id);
    return status;
  }
  return Sealed{layer.id, 0};
}

// Records the layer that adds nothing, and puts the device on top of it.
absl::Status Sealer::RecordUnwritten(LoopSlot& slot, const DeviceRow& row, const Uuid& layer,
                                     const Registration& registration) {
  COWL_ASSIGN_OR_RETURN(const NewLayerRow described,
                        DescribeLayer(slot, layer, row.base_layer, row.image_layer));
  return store_.catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_RETURN_IF_ERROR(edits.AddLayer(described.row, described.files));
    COWL_ASSIGN_OR_RETURN(DeviceRow now, edits.FindDevice(row.name));
    now.base_layer = layer;  // reads the same: an open device need not know
    COWL_RETURN_IF_ERROR(edits.UpdateDevice(now));
    return registration(edits, now, layer);
  });
}

absl::StatusOr<Sealer::Sealed> Sealer::SealClosed(LockedDevice& device,
                                                  const std::string& created_by,
                                                  const Registration& registration) {
  COWL_RETURN_IF_ERROR(store_.EditDevice(device.row.name, [](DeviceRow& row) {
    row.pending_overlay = Uuid::Random();
    row.pending_written = false;
  }));
  COWL_ASSIGN_OR_RETURN(device.row, store_.Read<DeviceRow>([&](CatalogQueries& q) {
    return q.FindDevice(device.row.name);
  }));
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, store_.loops_.Any());
  std::shared_lock lock(store_.files_mutex_);
  const absl::Status status = RunOn(slot->loop(), SealFile(*slot, device.row, created_by));
  if (!status.ok()) {
    // The file may be a layer by now, or still an overlay: recovery finds out.
    lock.unlock();
    const absl::Status recovered = RecoverPending(device.row);
    if (!recovered.ok()) Warn(absl::StrCat("recovering device ", device.row.name), recovered);
    return status;
  }
  COWL_ASSIGN_OR_RETURN(
      const NewLayerRow layer,
      DescribeLayer(*slot, device.row.overlay, device.row.base_layer, device.row.image_layer));
  COWL_RETURN_IF_ERROR(RecordSealed(device.row, layer, registration));
  return Sealed{layer.row.id, 0};
}

absl::StatusOr<Sealer::Sealed> Sealer::SealOpen(LockedDevice& device, const std::string& created_by,
                                                const Registration& registration) {
  const Uuid successor = Uuid::Random();
  COWL_RETURN_IF_ERROR(store_.EditDevice(device.row.name, [&](DeviceRow& row) {
    row.pending_overlay = successor;
    row.pending_written = true;
  }));
  COWL_ASSIGN_OR_RETURN(device.row, store_.Read<DeviceRow>([&](CatalogQueries& q) {
    return q.FindDevice(device.row.name);
  }));
  Sealed sealed{device.row.overlay, 0};
  const absl::Status status = SwitchToSuccessor(device, successor, &sealed.pause_us);
  if (!status.ok()) {
    // The device goes on with the overlay it had.
    const absl::Status dropped = DropPending(device.row);
    if (!dropped.ok()) Warn(absl::StrCat("device ", device.row.name), dropped);
    return status;
  }
  COWL_RETURN_IF_ERROR(FinishSwitched(device, created_by, registration));
  return sealed;
}

absl::Status Sealer::SwitchToSuccessor(LockedDevice& device, const Uuid& successor,
                                       uint64_t* pause_us) {
  Disk& disk = *device.entry->disk;
  const Overlay::NewOptions options{successor, device.row.overlay, device.row.size_bytes};
  return RunOn(disk.slot->loop(), SwitchOnLoop(*disk.slot, *disk.cow, options,
                                               store_.paths_.Of(kLayersFolder), pause_us));
}

// Second half of a snapshot of an open device. Each step may have been done already by an attempt
// that failed later on.
absl::Status Sealer::FinishSwitched(LockedDevice& device, const std::string& created_by,
                                    const Registration& registration) {
  Disk& disk = *device.entry->disk;
  COWL_ASSIGN_OR_RETURN(device.row, store_.Read<DeviceRow>([&](CatalogQueries& q) {
    return q.FindDevice(device.row.name);
  }));
  const DeviceRow& row = device.row;
  std::shared_lock lock(store_.files_mutex_);
  if (!row.pending_overlay.IsNil()) {
    COWL_RETURN_IF_ERROR(MakeLayerOfSwitched(disk, row, created_by));
    COWL_ASSIGN_OR_RETURN(const NewLayerRow layer,
                          DescribeLayer(*disk.slot, row.overlay, row.base_layer, row.image_layer));
    const absl::Status recorded = RecordSealed(row, layer, registration);
    // Even where the name was taken the layer is there now, and the device goes on above it.
    COWL_ASSIGN_OR_RETURN(device.row, store_.Read<DeviceRow>([&](CatalogQueries& q) {
      return q.FindDevice(row.name);
    }));
    if (!recorded.ok()) {
      if (device.row.pending_overlay.IsNil()) InstallNewChain(device).IgnoreError();
      return recorded;
    }
  }
  return InstallNewChain(device);
}

absl::Status Sealer::MakeLayerOfSwitched(Disk& disk, const DeviceRow& row,
                                         const std::string& created_by) {
  Loop& loop = disk.slot->loop();
  Storage& storage = *disk.slot->storage;
  const std::string name = DataFileName(row.overlay);
  const bool is_layer = RunOn(loop, LoadLayerMap(storage, name)).ok();
  if (!is_layer) return RunOn(loop, disk.cow->SealSwitched(row.base_layer, created_by));
  // The attempt that made it one may have failed to sync that.
  return RunOn(loop, SettleSuperblock(storage, name));
}

// REQUIRES: files_mutex_ is held.
absl::Status Sealer::InstallNewChain(LockedDevice& device) {
  Disk& disk = *device.entry->disk;
  COWL_ASSIGN_OR_RETURN(std::shared_ptr<const ChainMap> chain,
                        store_.LoadChain(*disk.slot, device.row.base_layer));
  COWL_ASSIGN_OR_RETURN(DeviceCap cap, store_.CapOf(device.row));
  return RunOn(disk.slot->loop(), InstallOnLoop(*disk.cow, std::move(chain), std::move(cap)));
}

absl::StatusOr<Sealer::NewLayerRow> Sealer::DescribeLayer(LoopSlot& slot, const Uuid& layer,
                                                          const Uuid& parent,
                                                          const Uuid& keep_from) {
  COWL_ASSIGN_OR_RETURN(std::vector<LayerRow> chain,
                        store_.Read<std::vector<LayerRow>>(
                            [&](CatalogQueries& queries) { return queries.Chain(parent); }));
  NewLayerRow described;
  described.row.id = layer;
  COWL_ASSIGN_OR_RETURN(const auto maps, LoadLayerMaps(slot, {described.row}));
  const LayerMap& map = *maps[0];
  const Superblock& superblock = map.superblock;
  described.row = {layer,
                   parent,
                   superblock.size_bytes,
                   BlockOffsetBytes(superblock.stored_blocks),
                   superblock.created_ns,
                   superblock.created_by};
  described.files = map.map.files;
  if (chain.size() < kChainLayersMax) return described;
  const auto kept = std::find_if(chain.begin() + 1, chain.end(),
                                 [&](const LayerRow& row) { return row.id == keep_from; });
  described.row.parent = kept == chain.end() ? Uuid{} : kept->id;
  chain.erase(kept, chain.end());
  COWL_ASSIGN_OR_RETURN(FileMap whole, TakeIn(slot, map, chain));
  described.row.stored_bytes = BlockOffsetBytes(whole.extents.DataBlocks());
  described.files = whole.files;
  COWL_RETURN_IF_ERROR(RunOn(slot.loop(), RewriteMap(*slot.storage, DataFileName(layer),
                                                     std::move(whole), described.row.parent)));
  return described;
}

// The layer's row, and the device on top of it. When `registration` is refused (a name that was
// taken meanwhile) the layer is recorded without it: the file is sealed and cannot become an
// overlay again.
absl::Status Sealer::RecordSealed(const DeviceRow& device, const NewLayerRow& layer,
                                  const Registration& registration) {
  const auto record = [&](CatalogEdits& edits, const Registration& with) -> absl::Status {
    COWL_RETURN_IF_ERROR(edits.AddLayer(layer.row, layer.files));
    COWL_ASSIGN_OR_RETURN(DeviceRow row, edits.FindDevice(device.name));
    row.base_layer = layer.row.id;
    row.overlay = row.pending_overlay;
    row.overlay_written = row.pending_written;
    row.pending_overlay = {};
    row.pending_written = false;
    COWL_RETURN_IF_ERROR(edits.UpdateDevice(row));
    return with ? with(edits, row, layer.row.id) : absl::OkStatus();
  };
  const absl::Status status =
      store_.catalog_->Write([&](CatalogEdits& edits) { return record(edits, registration); });
  if (status.ok() || !registration) return status;
  const absl::Status without =
      store_.catalog_->Write([&](CatalogEdits& edits) { return record(edits, nullptr); });
  if (!without.ok()) Warn(absl::StrCat("device ", device.name), without);
  return status;
}

// REQUIRES: nothing was ever written to the successor.
absl::Status Sealer::DropPending(const DeviceRow& device) {
  COWL_RETURN_IF_ERROR(store_.EditDevice(device.name, [](DeviceRow& row) {
    row.pending_overlay = {};
    row.pending_written = false;
  }));
  store_.RemoveDataFile(device.pending_overlay);
  return absl::OkStatus();
}

}  // namespace cowl
