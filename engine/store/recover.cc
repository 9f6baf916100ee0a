// recover.cc: a device whose overlay was being sealed when the process or the machine died: forward
// or back, as overlay/succession.h decides from the two files.
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "layer/layer.h"
#include "overlay/overlay.h"
#include "store/disk.h"
#include "store/sealer.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

using OverlayOr = absl::StatusOr<std::unique_ptr<Overlay>>;

Task<absl::Status> SealRecovered(LoopSlot& slot, const DeviceRow& row, bool journal_is_durable) {
  OverlayOr overlay = co_await Overlay::Open(slot.loop(), *slot.storage, row.overlay,
                                             OpenMode::kReadWrite, journal_is_durable);
  if (!overlay.ok()) co_return overlay.status();
  absl::Status status = co_await (*overlay)->PrepareToAppend();
  if (status.ok())
    status = co_await (*overlay)->SealToLayer(row.size_bytes, row.base_layer, "snapshot");
  co_return status;
}

}  // namespace

absl::StatusOr<Succession> Sealer::DecidePending(LoopSlot& slot, const DeviceRow& row) {
  return RunOn(slot.loop(),
               DecideSuccession(slot.loop(), *slot.storage, row.overlay, row.pending_overlay));
}

absl::Status Sealer::RecoverPending(const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, store_.loops_.Any());
  std::shared_lock lock(store_.files_mutex_);
  COWL_ASSIGN_OR_RETURN(const Succession way, DecidePending(*slot, row));
  if (!way.roll_forward) return DropPending(row);
  if (way.old_is_layer) {
    COWL_RETURN_IF_ERROR(
        RunOn(slot->loop(), SettleSuperblock(*slot->storage, DataFileName(row.overlay))));
  } else {
    COWL_RETURN_IF_ERROR(
        RunOn(slot->loop(), SealRecovered(*slot, row, way.old_journal_is_durable)));
  }
  if (row.pending_written && !PathExists(store_.paths_.DataFile(row.pending_overlay))) {
    return DataLoss(absl::StrCat(store_.paths_.DataFile(row.pending_overlay),
                                 ": the overlay of device ", row.name, " is missing"));
  }
  COWL_ASSIGN_OR_RETURN(const NewLayerRow layer,
                        DescribeLayer(*slot, row.overlay, row.base_layer, row.image_layer));
  // What the seal gave up may not have been punched out before the crash.
  const Registration note = [](CatalogEdits& edits, const DeviceRow&, const Uuid& id) {
    return Reaper::NoteForReclaim(edits, id);
  };
  return RecordSealed(row, layer, note);
}

}  // namespace cowl
