// succession.h: what to do with a snapshot that a crash interrupted: a successor overlay that is
// noted as pending. Reads both files, writes nothing. Threads: one loop. Errors: DataLoss when the
// files contradict each other. The rule and why it holds: docs/durability.md, "Snapshot of a
// running device".
#pragma once

#include "absl/status/statusor.h"
#include "base/uuid.h"
#include "io/file.h"
#include "io/loop.h"
#include "io/task.h"

namespace cowl {

struct Succession {
  // The old overlay becomes a layer and the successor the device's overlay; otherwise the successor
  // is removed and the old one goes on. In that case the pending note must be gone, durably, before
  // the old one is written to.
  bool roll_forward = false;
  // The old one is a layer already; only the catalog is behind. SettleSuperblock it before the
  // catalog says so.
  bool old_is_layer = false;
  // How to open the old overlay for sealing (Overlay::Open).
  bool old_journal_is_durable = false;
};

Task<absl::StatusOr<Succession>> DecideSuccession(Loop& loop, Storage& storage, Uuid old_overlay,
                                                  Uuid successor);

}  // namespace cowl
