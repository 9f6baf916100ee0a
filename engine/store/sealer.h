// sealer.h: makes a device's overlay a layer: the half of snapshot, commit, clone and export that
// they share, and its recovery after a crash. Ownership: borrows the store, which has it. Threads:
// any; what takes a LockedDevice or a row works under that device's gate. Durability: what returned
// OK survives a crash; one in the midst goes forward or back (overlay/succession.h). Errors: those
// of the catalog and the files; the device goes on with the overlay that it had, or on top of the
// new layer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "catalog/catalog.h"
#include "overlay/succession.h"
#include "store/device_table.h"
#include "store/loop_pool.h"

namespace cowl {

class StoreImpl;

class Sealer {
 public:
  // What becomes of a device's state once it is a layer, in the transaction that records the layer.
  // `device` sits on it by then.
  using Registration =
      std::function<absl::Status(CatalogEdits&, const DeviceRow& device, const Uuid& layer)>;
  struct Sealed {
    Uuid layer;
    uint64_t pause_us = 0;
  };
  // A layer file that is complete, and what the catalog will say of it.
  struct NewLayerRow {
    LayerRow row;
    std::vector<Uuid> files;
  };

  explicit Sealer(StoreImpl& store) : store_(store) {}

  // The gate of a device that is none of the volumes, with nothing left over from a seal that was
  // cut short. `verb`: what cannot be done with a volume, as a participle.
  absl::StatusOr<LockedDevice> LockOverlay(const std::string& name, std::string_view verb);
  // The device's state as a layer of the device's size.
  absl::StatusOr<Sealed> Seal(LockedDevice& device, const std::string& created_by,
                              const Registration& registration);
  // As Seal, for what does not need a layer of the device's own size: a state that was never
  // written is the layer below, if any.
  absl::StatusOr<Sealed> SealState(LockedDevice& device, const std::string& created_by,
                                   const Registration& registration);
  // What the catalog is to say of a layer file on `parent`. A chain that would grow too long ends
  // in this layer: it takes in what lies below it, down to the layer `keep_from` where that has
  // room for one on top.
  absl::StatusOr<NewLayerRow> DescribeLayer(LoopSlot& slot, const Uuid& layer, const Uuid& parent,
                                            const Uuid& keep_from);

  // recover.cc. Where a seal was cut short: forward or back? Writes nothing.
  absl::StatusOr<Succession> DecidePending(LoopSlot& slot, const DeviceRow& row);
  // REQUIRES: the device is not open. Until this succeeds, it cannot be.
  absl::Status RecoverPending(const DeviceRow& row);

 private:
  absl::StatusOr<bool> IsUnwritten(LockedDevice& device);
  absl::StatusOr<Sealed> SealOpen(LockedDevice& device, const std::string& created_by,
                                  const Registration& registration);
  absl::StatusOr<Sealed> SealClosed(LockedDevice& device, const std::string& created_by,
                                    const Registration& registration);
  absl::StatusOr<Sealed> SealUnwritten(LockedDevice& device, const std::string& created_by,
                                       const Registration& registration);
  absl::Status RecordUnwritten(LoopSlot& slot, const DeviceRow& row, const Uuid& layer,
                               const Registration& registration);
  absl::Status SwitchToSuccessor(LockedDevice& device, const Uuid& successor, uint64_t* pause_us);
  absl::Status FinishSwitched(LockedDevice& device, const std::string& created_by,
                              const Registration& registration);
  absl::Status MakeLayerOfSwitched(Disk& disk, const DeviceRow& row, const std::string& created_by);
  absl::Status InstallNewChain(LockedDevice& device);
  absl::Status RecordSealed(const DeviceRow& device, const NewLayerRow& layer,
                            const Registration& registration);
  absl::Status DropPending(const DeviceRow& device);

  StoreImpl& store_;
};

}  // namespace cowl
