// recording_storage.h: a memory storage that writes down everything a disk would have seen, in
// order; crash_simulator.h makes from that log the states a crash can leave. Each change of a file
// (write, truncate, allocate, punch) is two events: it began, and it is done. Each sync too: it
// covers what was done before it began, once it is done. At once by default; held back (HoldSyncs,
// HoldChanges), requests end only when the test says so, in any order, so that a test can write
// while a sync is under way and cut there. A position in the log is a number of events: the crash
// at position p has seen events [0, p). Threads: one; the one that drives the tasks (InlineLoop).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "io/memory_storage.h"

namespace cowl {

struct DiskEvent {
  enum class Kind : uint8_t {
    kChangeBegan,
    kChangeDone,  // `begun` names the event
    kSyncBegan,
    kSyncDone,       // `begun` names the event
    kSyncFailed,     // `begun` names the event; the kernel calls the pages clean all the same
    kCreate,         // `name`
    kRemove,         // `name`
    kRename,         // `name` to `new_name`
    kSyncDirectory,  // `name`: the folder
    kMarker,         // `name`: the test's text
  };

  Kind kind = Kind::kMarker;
  IoRequest::Op op = IoRequest::Op::kWrite;  // of a change
  uint32_t file = 0;                         // a number that stays with the file through renames
  size_t begun = 0;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  std::vector<std::byte> bytes{};  // of a write
  std::string name{};
  std::string new_name{};

  std::string ToString() const;
};

struct DiskLog {
  MemoryStorage initial;  // what was there, durable, when the recording began
  std::map<std::string, uint32_t> initial_files;  // its names' numbers
  std::vector<DiskEvent> events;

  size_t position() const { return events.size(); }
  // Where the marker of this text stands: the position after it. CHECKs that it is there.
  size_t PositionAfter(const std::string& marker) const;
};

class RecordingStorage : public Storage {
 public:
  RecordingStorage() : RecordingStorage(MemoryStorage()) {}
  // Begins with the files of `initial`, all durable; those are copied.
  explicit RecordingStorage(const MemoryStorage& initial);
  ~RecordingStorage() override;

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& name, OpenMode mode) override;
  absl::Status Remove(const std::string& name) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& folder) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override {
    return live_.List(folder);
  }

  const DiskLog& log() const { return log_; }
  size_t position() const { return log_.position(); }
  size_t Mark(const std::string& text);  // the position after it
  MemoryStorage& live() { return live_; }

  // Held requests. Turning off does not complete what is held.
  void HoldSyncs(bool held) { hold_syncs_ = held; }
  void HoldChanges(bool held) { hold_changes_ = held; }
  void HoldReads(bool held) { hold_reads_ = held; }
  struct Held {
    uint64_t id;
    IoRequest::Op op;
    std::string name;  // as opened
    uint64_t offset_bytes;
  };
  std::vector<Held> held() const;  // oldest first
  void Complete(uint64_t id);
  void CompleteOldest();
  void CompleteAny(std::mt19937_64& random);
  void CompleteAll();  // oldest first, those too that come meanwhile
  bool has_held() const { return !held_.empty(); }
  // The process was killed: what is held will never be answered. Each change of it has reached the
  // page cache or, as if it had never begun, has not. The tasks that wait are never resumed nor
  // destroyed, and their files must not be either.
  void Abandon(std::mt19937_64& random);
  // The sync `id` ends with an error, and nothing it covered is sure to be on the disk, ever.
  void FailSync(uint64_t id, int error_number);
  // The same for a sync that is not held: the `nth` from now on (1: the next).
  void FailNthSync(uint64_t nth, int error_number);

 private:
  friend class RecordingFile;
  struct HeldRequest {
    uint64_t id;
    class RecordingFile* file;
    IoRequest* request;
    size_t begun;
  };

  bool Start(RecordingFile& file, IoRequest& request);
  size_t LogBegin(RecordingFile& file, const IoRequest& request);
  void Finish(RecordingFile& file, IoRequest& request, size_t begun, int sync_error_number);
  HeldRequest TakeHeld(uint64_t id);

  MemoryStorage live_;
  DiskLog log_;
  std::map<std::string, uint32_t> files_;  // names now
  uint32_t next_file_ = 0;
  bool hold_syncs_ = false;
  bool hold_changes_ = false;
  bool hold_reads_ = false;
  uint64_t next_held_ = 1;
  std::vector<HeldRequest> held_;
  uint64_t failing_sync_in_ = 0;  // 0: none
  int failing_sync_errno_ = 0;
};

}  // namespace cowl
