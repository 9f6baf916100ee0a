// recover.cc: a device whose overlay was being sealed when the process or the machine died: forward or back.
//
//   the file is a layer already                          forward: record it
//   the successor holds nothing                          back: drop it, the overlay goes on
//   the successor continues a seal that the overlay has  forward: seal the overlay now
//   the successor continues a seal that the overlay lost, and neither was ever durable (the machine died)
//                                                        back: what the successor holds comes after what was lost
//   the same, but the successor was durable              damage: the overlay's seal was durable before
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "overlay/overlay.h"
#include "store/disk.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

using OverlayOr = absl::StatusOr<std::unique_ptr<Overlay>>;

Task<absl::StatusOr<DataFileKind>> KindOf(Storage& storage, std::string name) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kRead);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(**file);
  if (!superblock.ok()) co_return superblock.status();
  co_return superblock->kind;
}

// What recovery must know of an overlay, without keeping it open.
struct JournalView {
  JournalFacts facts;
  SealMark end;
};

Task<absl::StatusOr<JournalView>> ViewJournal(LoopSlot& slot, Uuid id, bool journal_is_durable) {
  OverlayOr overlay = co_await Overlay::Open(slot.loop(), *slot.storage, id, OpenMode::kRead, journal_is_durable);
  if (!overlay.ok()) co_return overlay.status();
  co_return JournalView{(*overlay)->facts(), (*overlay)->last_mark()};
}

Task<absl::Status> SealRecovered(LoopSlot& slot, const DeviceRow& row, bool journal_is_durable) {
  OverlayOr overlay = co_await Overlay::Open(slot.loop(), *slot.storage, row.overlay, OpenMode::kReadWrite, journal_is_durable);
  if (!overlay.ok()) co_return overlay.status();
  absl::Status status = co_await (*overlay)->PrepareToAppend();
  if (status.ok()) status = co_await (*overlay)->SealToLayer(row.size_bytes, row.base_layer, "snapshot");
  co_return status;
}

}  // namespace

// What recovery is to do. Writes nothing.
absl::StatusOr<StoreImpl::PendingWay> StoreImpl::WayOfPending(LoopSlot& slot, const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(const DataFileKind kind, RunOn(slot.loop(), KindOf(*slot.storage, DataFileName(row.overlay))));
  if (kind == DataFileKind::kLayer) return PendingWay::kRecord;
  if (!row.pending_written || !PathExists(paths_.DataFile(row.pending_overlay))) return PendingWay::kBack;
  const absl::StatusOr<JournalView> successor = RunOn(slot.loop(), ViewJournal(slot, row.pending_overlay, false));
  if (!successor.ok()) {
    // Cut short while it was made, before anything went to it: the overlay was not sealed for it then.
    COWL_ASSIGN_OR_RETURN(const JournalView old, RunOn(slot.loop(), ViewJournal(slot, row.overlay, false)));
    if (old.facts.seal && old.facts.seal_successor == row.pending_overlay) return successor.status();
    return PendingWay::kBack;
  }
  const bool durable = successor->facts.has_checkpoint || successor->facts.continuation_is_durable;
  if (!durable && !successor->facts.continues) return PendingWay::kBack;
  COWL_ASSIGN_OR_RETURN(const JournalView old, RunOn(slot.loop(), ViewJournal(slot, row.overlay, durable)));
  const bool has_seal = !successor->facts.continues || old.end.order >= successor->facts.continues->order;
  if (!has_seal && durable) {
    return DataLoss(absl::StrCat(paths_.DataFile(row.overlay), ": its journal ends at order ", old.end.order,
                                 ", before the seal that ", paths_.DataFile(row.pending_overlay), " continues"));
  }
  if (!has_seal) return PendingWay::kBack;
  return durable ? PendingWay::kSealDurable : PendingWay::kSeal;
}

// REQUIRES: the device is not open. Until this succeeds, it cannot be.
absl::Status StoreImpl::RecoverPending(const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(const PendingWay way, WayOfPending(*slot, row));
  if (way == PendingWay::kBack) return DropPending(row);
  if (way != PendingWay::kRecord) {
    COWL_RETURN_IF_ERROR(RunOn(slot->loop(), SealRecovered(*slot, row, way == PendingWay::kSealDurable)));
  }
  if (row.pending_written && !PathExists(paths_.DataFile(row.pending_overlay))) {
    return DataLoss(absl::StrCat(paths_.DataFile(row.pending_overlay), ": the overlay of device ", row.name, " is missing"));
  }
  COWL_ASSIGN_OR_RETURN(const NewLayerRow layer, DescribeLayer(*slot, row.overlay, row.base_layer));
  // What the seal gave up may not have been punched out before the crash.
  const Registration note = [](CatalogEdits& edits, const DeviceRow&, const Uuid& id) { return Reaper::NoteForReclaim(edits, id); };
  return RecordSealed(row, layer, note);
}

}  // namespace cowl
