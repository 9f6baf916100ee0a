// replay.h: what a journal says after a crash: reads the chain of records, decides how far it
// holds, and applies it.
//
// The chain ends at the first record whose own check fails. D is the highest order known to be
// synced. Records up to D are facts: data that is bad there is a read error later, never a reason
// to stop. Above D, the state is the largest order at which every mapping that is still live
// verifies against the data. Units: blocks. Threads: one loop. Errors: DataLoss when records that
// were durable are damaged; those of the file. Cost: reads the journal since the last checkpoint,
// and the data written above D (at most what two epochs wrote).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "format/journal_record.h"
#include "format/superblock.h"
#include "io/file.h"
#include "overlay/overlay_map.h"

namespace cowl {

// Where the next record goes, and what it must follow.
struct JournalPosition {
  SlotRun chunk;
  uint64_t offset_bytes = 0;  // in the chunk
  uint64_t last_order = 0;
  uint64_t last_check = 0;
};

// Whether `record` is the next one after `position`.
bool FollowsOn(const JournalRecord& record, const JournalPosition& position,
               const Superblock& superblock);
// Where the journal stands after it.
JournalPosition After(const JournalRecord& record, JournalPosition position, size_t length_bytes);

struct ReplayedJournal {
  JournalPosition position;
  std::vector<SlotRun> chunks;  // all that are in use, in order
  uint64_t durable_order = 0;   // D
  // Written above D: must be made durable (rewritten) before a flush is acknowledged.
  std::vector<SlotRun> tail_slots;
  // Live at D and replaced above it: a second crash may need them.
  std::vector<SlotRun> pinned;
  std::optional<JournalRecord> continues;  // the first record ever, when it is a kContinue
  bool has_writes = false;                 // any kWrite or kZero was applied
  std::optional<JournalRecord> seal;       // the last record, when it is a kSeal
};

// Replays into `map`, which holds the checkpoint. `journal_is_durable`: it is known from elsewhere
// (a successor that was flushed) that all of the journal was synced.
Task<absl::StatusOr<ReplayedJournal>> ReplayJournal(File& file, const Superblock& superblock,
                                                    bool journal_is_durable, OverlayMap& map);

}  // namespace cowl
