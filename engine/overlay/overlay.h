// overlay.h: the writable, thin layer of one device: slots, journal and map in one file that a
// crash at any moment leaves valid.
//
// A write never overwrites what is committed: it takes free slots, writes the data, and then
// appends a journal record; the map changes and the answer goes out after that. One journal write
// is in flight, carrying the records of everything that arrived meanwhile. The rules are spelled
// out in docs/durability.md and where each is kept: slot_allocator.h, replay.h, overlay.cc.
//
// Units: blocks. Threads: one loop. Ownership: owns the file. Errors: ResourceExhausted when the
// disk is full (writing goes on once there is room); DataLoss for blocks that fail their checksum;
// after a failed sync or journal write every change is refused with that error (failure()).
// Durability: as BlockDevice.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "format/journal_record.h"
#include "format/superblock.h"
#include "io/file.h"
#include "io/loop.h"
#include "layer/data_file.h"
#include "layer/layer.h"
#include "overlay/overlay_map.h"
#include "overlay/replay.h"
#include "overlay/slot_allocator.h"

namespace cowl {

// What a seal says, for the successor to name.
struct SealMark {
  Uuid overlay;
  uint64_t order = 0;
  uint64_t check = 0;
};

// What recovery of an interrupted snapshot must know of an overlay's journal (store: pending
// successors).
struct JournalFacts {
  std::optional<SealMark> continues;  // the overlay this one follows
  std::optional<SealMark> seal;       // this one's last record is its seal, naming
  Uuid seal_successor;                // this successor
  bool has_writes = false;            // since the last checkpoint
  bool has_checkpoint = false;
  bool continuation_is_durable =
      false;  // its first record was synced: so was the seal of the one it follows
};

class Overlay {
 public:
  struct NewOptions {
    Uuid id;
    Uuid parent;
    uint64_t size_bytes = 0;
  };

  // Makes the file, durable but for its folder's entry, ready to append to.
  static Task<absl::StatusOr<std::unique_ptr<Overlay>>> Create(Loop& loop, Storage& storage,
                                                               NewOptions options);
  // Opens and replays. Writes nothing: a store that is only read stays as it is.
  // `journal_is_durable`: see replay.h.
  static Task<absl::StatusOr<std::unique_ptr<Overlay>>> Open(Loop& loop, Storage& storage, Uuid id,
                                                             OpenMode mode,
                                                             bool journal_is_durable);
  ~Overlay();
  Overlay(const Overlay&) = delete;
  Overlay& operator=(const Overlay&) = delete;

  // At most JournalRecord::kBlocksMax whole blocks. The caller keeps overlapping partial-block
  // updates apart.
  Task<absl::Status> Write(uint64_t block, std::span<const std::byte> data);
  // The range reads as zeros and hides what lies below. Works on a full disk, too, while the
  // journal's reserve lasts.
  Task<absl::Status> Zero(uint64_t block, uint64_t blocks);
  // `place`: of the sync, where one is needed.
  Task<absl::Status> Flush(SyncPlace place = SyncPlace::kAside);

  // What the overlay has of [begin, end): visit(Segment), kAbsent where the layers below decide.
  template <typename Visit>
  void VisitRange(uint64_t begin, uint64_t end, Visit&& visit) const {
    map_.VisitRange(begin, end, visit);
  }
  // Reads slots that VisitRange named, verified. The caller holds a read ticket from before
  // VisitRange on.
  Task<absl::Status> ReadSlots(uint64_t physical, std::span<std::byte> into);
  uint64_t EnterRead() { return slots_.EnterRead(); }
  void LeaveRead(uint64_t ticket) { slots_.LeaveRead(ticket); }

  // Makes the first append cheap: raises the incarnation now.
  Task<absl::Status> PrepareToAppend();
  // Snapshot: nothing may be appended to this overlay after Seal, nothing before Continue to the
  // new one.
  Task<absl::StatusOr<SealMark>> Seal(Uuid successor);
  Task<absl::Status> Continue(SealMark mark);
  // Every sync of this overlay first makes `predecessor` durable; null ends that.
  void SetPredecessor(std::shared_ptr<Overlay> predecessor) {
    predecessor_ = std::move(predecessor);
  }

  // Turns the file into a layer, durably: what its opening found first, then the final map and
  // checksums, the superblock last. No writes may be in flight or come after.
  Task<absl::Status> SealToLayer(uint64_t size_bytes, Uuid parent, std::string created_by);
  // Writes a checkpoint now.
  Task<absl::Status> Checkpoint();
  // Ends background work, checkpoints what is dirty and marks the file clean. Call once; only the
  // destructor may follow.
  Task<absl::Status> Close();
  // Ends background work and leaves the file as it is, as Close without its checkpoint.
  Task<void> EndBackground();

  const Uuid& id() const { return root_.id; }
  uint64_t stored_blocks() const { return map_.stored_blocks(); }
  uint64_t StoredIn(uint64_t begin, uint64_t end) const { return map_.StoredIn(begin, end); }
  // Why changes are refused; OK while they are not.
  const absl::Status& failure() const { return failure_; }
  const JournalFacts& facts() const { return facts_; }
  File& file() { return *file_; }
  // The whole map now (reports; sealing goes through SealToLayer).
  ExtentArray FlatMap() const;

 private:
  struct Pending;
  class AppendAwaiter;
  class FreezeAwaiter;
  struct CheckpointWork;
  // The part of the journal that a recovery found: whole chunks, and of the last one so many bytes.
  struct RecoveredJournal {
    std::vector<SlotRun> chunks;
    uint64_t last_bytes = 0;
  };
  enum class CheckpointKind { kRunning, kClean, kLayer };

  Overlay(Loop& loop, std::unique_ptr<File> file, const Superblock& root, OverlayMap map,
          std::vector<uint64_t> page_blocks);

  void AdoptReplayed(const ReplayedJournal& replayed);
  absl::Status RebuildSlots(const std::vector<SlotRun>& pinned, bool is_writable);

  // Writing (overlay.cc).
  Task<absl::Status> Admit();
  Task<absl::Status> Place(std::span<const std::byte> data, std::vector<SlotRun>* runs);
  Task<absl::Status> TryPlace(std::span<const std::byte> data, bool in_long_runs,
                              std::vector<SlotRun>* runs);
  Task<void> ReturnRefused(SlotRun run);
  absl::Status FileIsFull() const;
  bool NeedsMark() const;
  void StartEpochTimer();
  static internal::Detached RunEpochTimer(Overlay* overlay, std::shared_ptr<bool> alive);
  static internal::Detached RunMark(Overlay* overlay);

  // The journal (journal.cc).
  Task<absl::Status> Append(JournalRecord record);
  void WakePump();
  static internal::Detached RunPump(Overlay* overlay);
  Task<void> Pump();
  Task<absl::Status> WriteBatch(std::span<Pending* const> batch, size_t* written);
  void EncodeNext(JournalRecord& record, std::vector<std::byte>& out, JournalPosition& position);
  Task<absl::Status> WriteJournal(std::span<const std::byte> bytes);
  void FinishRecord(Pending& pending);
  Task<absl::Status> SwitchChunk();
  Task<void> TakeSpareChunk();
  Task<absl::Status> FreeUpSpareChunk();
  Task<absl::Status> RaiseIncarnation();

  // Syncs (sync.cc).
  Task<absl::Status> SyncOnce(SyncPlace place = SyncPlace::kAside);
  Task<absl::Status> SyncAfterNow();
  Task<absl::Status> WriteRoot(Superblock next);
  Task<absl::Status> RewriteTail();
  void Fail(const absl::Status& status);
  // Freed space that a trim leaves for the next writes.
  uint64_t KeptFreeBlocks() const;
  void StartTrim();
  static internal::Detached RunTrim(Overlay* overlay, std::shared_ptr<bool> alive);
  static internal::Detached RunBackgroundSync(Overlay* overlay);
  Task<absl::Status> PunchSome(uint64_t blocks);
  Task<void> PunchFree();

  // Checkpoints (checkpoint.cc).
  Task<absl::Status> FreezeForCheckpoint();
  void EndJournal();
  void Freeze();
  Task<absl::Status> CheckpointAs(CheckpointKind kind, Superblock next);
  Task<absl::Status> WriteCheckpoint(CheckpointWork& work);
  Task<absl::Status> LoadOldPages(CheckpointWork& work);
  Task<absl::Status> WriteCheckpointSections(CheckpointWork& work);
  void InstallCheckpoint(CheckpointWork& work);
  Task<void> LetGo(CheckpointWork work);
  void MaybeCheckpoint();
  static internal::Detached RunCheckpoint(Overlay* overlay);

  Loop& loop_;
  const std::unique_ptr<File> file_;

  // What the file's superblock says now.
  Superblock root_;
  bool appendable_ = false;  // incarnation raised and synced, journal chunk there
  bool preparing_ = false;   // that is under way
  bool sealed_ = false;      // the last record is a seal: no link, mark or checkpoint may follow
  bool sealing_ = false;     // one waits to be written: nor may a mark line up behind it
  WaitQueue prepared_;

  OverlayMap map_;
  SumTable sums_;
  SlotAllocator slots_{Superblock::kFirstFreeBlock};

  // The journal: where the next record goes; chunks since the last checkpoint; what waits for the
  // pump.
  JournalPosition position_;
  std::vector<SlotRun> chunks_;
  std::vector<Pending*> queue_;
  bool pump_running_ = false;
  uint64_t journal_bytes_ = 0;          // since the last checkpoint
  uint64_t checkpoint_bytes_ = 0;       // what the last one wrote
  std::optional<SlotRun> spare_chunk_;  // taken ahead, so that a full disk does not stop discards

  // Durability: orders as in replay.h.
  uint64_t durable_order_ = 0;
  bool syncing_ = false;
  WaitQueue sync_done_;
  uint64_t claimed_order_ = 0;            // the durable order that the last record carries
  uint64_t last_change_order_ = 0;        // of the last record that is no mark
  std::vector<SlotRun> recovered_slots_;  // to be rewritten before the first sync counts
  RecoveredJournal recovered_journal_;
  bool recovered_root_ = false;
  uint64_t written_blocks_ = 0;    // since the last sync was submitted
  uint64_t writeback_blocks_ = 0;  // of these, since they last started on their way
  std::shared_ptr<Overlay> predecessor_;
  absl::Status failure_;
  JournalFacts facts_;

  // Checkpoints. While one waits for the journal to switch chunks, freeze_waiter_ is set.
  bool checkpointing_ = false;
  std::coroutine_handle<> freeze_waiter_;
  absl::Status freeze_status_;
  std::shared_ptr<const OverlayMap::Frozen> frozen_;
  JournalPosition frozen_position_;  // where the journal goes on after what is frozen
  uint64_t frozen_stored_blocks_ = 0;
  std::vector<SlotRun> frozen_chunks_;  // what the checkpoint frees
  WaitQueue checkpoint_done_;

  // Background work: how much is under way, and who waits for none.
  int background_ = 0;
  WaitQueue background_done_;
  bool closing_ = false;
  bool epoch_timer_ = false;
  bool trim_running_ = false;
  uint64_t discard_order_ = 0;  // the last record that gave up space to go back to the file system
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace cowl
