// catalog.h: the store's memory of names, chains, devices, sizes and lineage: one SQLite file, in
// WAL mode, synchronous=FULL. Units: bytes; times are nanoseconds since 1970 UTC. Ownership: one
// Catalog a file; its owner holds the store's lock, so that no other process has the file open.
// Threads: any; one mutex inside. Work given to Write may run on another thread that writes at the
// same time (they share one commit), so it must touch nothing but its arguments and what its caller
// left alone meanwhile. Errors: absl::Status. NotFound: not there. AlreadyExists: a name that is
// taken. FailedPrecondition: a foreign or newer file, or something still in use. DataLoss: a
// damaged file. ResourceExhausted: a full disk; nothing was changed. After a write or sync that
// failed the catalog takes no more changes (the kernel marks such pages clean): open it again.
// Durability: a Write that returned OK survives a crash of the machine; one that failed left no
// trace.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "catalog/database.h"
#include "catalog/edits.h"
#include "catalog/queries.h"

namespace cowl {

enum class CatalogMode { kReadWrite, kReadNothing /* writes nothing to the directory */ };

class Catalog {
 public:
  // Makes an empty catalog at `path`, durable but for the directory's entry. AlreadyExists when
  // there is a file.
  static absl::Status Create(const std::string& path);
  static absl::StatusOr<std::unique_ptr<Catalog>> Open(const std::string& path, CatalogMode mode);
  // Moves everything into the one file: a catalog that was closed leaves no log beside it.
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  // Runs `work` on one unchanging state.
  absl::Status Read(const std::function<absl::Status(CatalogQueries&)>& work);
  // Runs `work` in a transaction of its own: its changes are kept and durable when it and this
  // return OK, else none of them. Many Writes at the same time share one sync. `work` may run more
  // than once.
  absl::Status Write(const std::function<absl::Status(CatalogEdits&)>& work);

  // Called when the disk is full; true when it made room, and the transaction is tried once more.
  // Set before the first Write.
  void SetMakeRoom(std::function<bool()> make_room) { make_room_ = std::move(make_room); }

  // Everything SQLite can check, references too: DataLoss with the first thing found.
  absl::Status Check();

 private:
  struct Job {
    const std::function<absl::Status(CatalogEdits&)>* work;
    absl::Status status;
    bool done = false;
  };

  Catalog(std::unique_ptr<Database> database, CatalogMode mode);
  void RunBatch(std::vector<Job*>& batch);
  absl::Status TryBatch(std::vector<Job*>& batch);
  absl::Status RunJob(Job& job);
  void CheckpointIfLong();

  const CatalogMode mode_;
  std::function<bool()> make_room_;

  // Who waits for a commit, and whether one of them is at it.
  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::vector<Job*> queue_;
  bool committing_ = false;

  // The connection and what stopped it from writing.
  std::mutex database_mutex_;
  std::unique_ptr<Database> database_;
  CatalogEdits edits_;
  absl::Status write_failure_;
};

}  // namespace cowl
