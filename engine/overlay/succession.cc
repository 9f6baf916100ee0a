#include "overlay/succession.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "overlay/overlay.h"

namespace cowl {
namespace {

Task<absl::StatusOr<bool>> IsLayer(Storage& storage, Uuid id) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(DataFileName(id), OpenMode::kRead);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(**file);
  if (!superblock.ok()) co_return superblock.status();
  co_return superblock->kind == DataFileKind::kLayer;
}

// The successor names exactly this seal. One that has a checkpoint has dropped that record, but was
// durable, and so was the seal.
bool SealMatches(const JournalFacts& old, const JournalFacts& next, const Uuid& successor) {
  if (!old.seal || old.seal_successor != successor) return false;
  if (!next.continues) return next.has_checkpoint;
  return next.continues->order == old.seal->order && next.continues->check == old.seal->check;
}

Task<absl::StatusOr<bool>> IsSealedFor(Loop& loop, Storage& storage, Uuid overlay, Uuid successor) {
  absl::StatusOr<std::unique_ptr<Overlay>> old =
      co_await Overlay::Open(loop, storage, overlay, OpenMode::kRead, false);
  if (!old.ok()) co_return old.status();
  co_return (*old)->facts().seal && (*old)->facts().seal_successor == successor;
}

}  // namespace

Task<absl::StatusOr<Succession>> DecideSuccession(Loop& loop, Storage& storage, Uuid old_overlay,
                                                  Uuid successor) {
  Succession decision;
  absl::StatusOr<bool> is_layer = co_await IsLayer(storage, old_overlay);
  if (!is_layer.ok()) co_return is_layer.status();
  if (*is_layer) {
    decision.roll_forward = true;
    decision.old_is_layer = true;
    co_return decision;
  }
  absl::StatusOr<std::unique_ptr<Overlay>> next =
      co_await Overlay::Open(loop, storage, successor, OpenMode::kRead, false);
  if (!next.ok()) {
    // Not made, or only in part: nothing went to it, and the overlay was not sealed for it then.
    absl::StatusOr<bool> sealed = co_await IsSealedFor(loop, storage, old_overlay, successor);
    if (!sealed.ok()) co_return sealed.status();
    if (*sealed) co_return Annotate(next.status(), "the overlay of a device is lost");
    co_return decision;
  }
  const JournalFacts& next_facts = (*next)->facts();
  const bool holds_records = next_facts.has_writes || next_facts.has_checkpoint;
  decision.old_journal_is_durable = next_facts.has_checkpoint || next_facts.continuation_is_durable;
  const bool durable = decision.old_journal_is_durable;
  absl::StatusOr<std::unique_ptr<Overlay>> old =
      co_await Overlay::Open(loop, storage, old_overlay, OpenMode::kRead, durable);
  if (!old.ok()) co_return old.status();
  const bool matches = SealMatches((*old)->facts(), next_facts, successor);
  if (durable && !matches) {
    co_return DataLoss(
        absl::StrCat((*old)->file().path(), ": its successor ", successor.ToString(),
                     " holds flushed data, but it does not end with a seal that names it"));
  }
  decision.roll_forward = holds_records && matches;
  co_return decision;
}

}  // namespace cowl
