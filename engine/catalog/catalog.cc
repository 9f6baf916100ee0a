#include "catalog/catalog.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "catalog/schema.h"

namespace cowl {
namespace {

// When the write-ahead log is this long it is moved into the database: 512 KiB. The file stays as
// long as it once was, which is what a hundred devices that were just made take; and it is read
// whole after a crash.
constexpr int kWalPagesMax = 128;

bool IsFull(const absl::Status& status) { return absl::IsResourceExhausted(status); }

}  // namespace

absl::Status Catalog::Create(const std::string& path) {
  COWL_ASSIGN_OR_RETURN(auto database, Database::Open(path, Database::Mode::kCreate));
  COWL_RETURN_IF_ERROR(CreateSchema(*database));
  return database->Checkpoint();
}

absl::StatusOr<std::unique_ptr<Catalog>> Catalog::Open(const std::string& path, CatalogMode mode) {
  COWL_RETURN_IF_ERROR(CheckHeader(path));
  COWL_ASSIGN_OR_RETURN(auto database, Database::Open(path, mode == CatalogMode::kReadWrite
                                                                ? Database::Mode::kReadWrite
                                                                : Database::Mode::kReadNothing));
  COWL_RETURN_IF_ERROR(CheckSchema(*database));
  return std::unique_ptr<Catalog>(new Catalog(std::move(database), mode));
}

Catalog::Catalog(std::unique_ptr<Database> database, CatalogMode mode)
    : mode_(mode), database_(std::move(database)), edits_(*database_) {}

Catalog::~Catalog() {
  // A checkpoint that fails loses nothing: the log stays, and the next open reads it.
  if (mode_ == CatalogMode::kReadWrite && write_failure_.ok())
    database_->Checkpoint().IgnoreError();
}

absl::Status Catalog::Read(const std::function<absl::Status(CatalogQueries&)>& work) {
  std::lock_guard lock(database_mutex_);
  return work(edits_);
}

absl::Status Catalog::Write(const std::function<absl::Status(CatalogEdits&)>& work) {
  if (mode_ != CatalogMode::kReadWrite) {
    return FailedPrecondition(absl::StrCat(database_->path(), ": opened for reading only"));
  }
  Job job{&work, absl::OkStatus()};
  std::unique_lock lock(queue_mutex_);
  queue_.push_back(&job);
  queue_changed_.wait(lock, [&] { return job.done || !committing_; });
  if (job.done) return job.status;
  // Whoever finds nobody at it commits for all that wait by now.
  committing_ = true;
  std::vector<Job*> batch = std::exchange(queue_, {});
  lock.unlock();
  RunBatch(batch);
  lock.lock();
  for (Job* const each : batch) each->done = true;
  committing_ = false;
  queue_changed_.notify_all();
  return job.status;
}

void Catalog::RunBatch(std::vector<Job*>& batch) {
  std::lock_guard lock(database_mutex_);
  absl::Status status = write_failure_.ok() ? TryBatch(batch) : write_failure_;
  if (IsFull(status) && make_room_ && make_room_()) status = TryBatch(batch);
  if (!status.ok()) {
    for (Job* const job : batch) job->status = status;
    return;
  }
  CheckpointIfLong();
}

// Not OK: the transaction as a whole failed and was rolled back. One job that fails takes back its
// own changes only.
absl::Status Catalog::TryBatch(std::vector<Job*>& batch) {
  absl::Status status = database_->Execute("BEGIN IMMEDIATE");
  for (Job* const job : batch) {
    if (!status.ok()) break;
    status = RunJob(*job);
  }
  if (status.ok()) status = database_->Execute("COMMIT");
  if (status.ok()) return status;
  // SQLite has rolled back by itself after some errors, and then says that there is nothing to do.
  database_->Execute("ROLLBACK").IgnoreError();
  if (absl::IsInternal(status)) {
    write_failure_ = Annotate(
        status, "the catalog takes no changes any more; close the store and open it again");
  }
  return status;
}

// Sets the job's status; not OK when the whole transaction must go (a full disk, a failed disk).
absl::Status Catalog::RunJob(Job& job) {
  COWL_RETURN_IF_ERROR(database_->Execute("SAVEPOINT job"));
  job.status = (*job.work)(edits_);
  if (job.status.ok()) return database_->Execute("RELEASE job");
  if (IsFull(job.status)) return job.status;
  return database_->Execute("ROLLBACK TO job; RELEASE job");
}

void Catalog::CheckpointIfLong() {
  if (database_->wal_page_count() < kWalPagesMax) return;
  const absl::Status status = database_->Checkpoint();
  // Without room the log just grows on. After anything else, pages may be lost that a later sync
  // calls written.
  if (!status.ok() && !IsFull(status))
    write_failure_ = Annotate(status, "the catalog takes no changes any more");
}

absl::Status Catalog::Check() {
  std::lock_guard lock(database_mutex_);
  Statement integrity = database_->Prepare("PRAGMA integrity_check(1)");
  COWL_ASSIGN_OR_RETURN(const bool answered, integrity.Step());
  const std::string answer = answered ? integrity.TextAt(0) : "no answer";
  if (answer != "ok")
    return DataLoss(absl::StrCat(database_->path(), ": damaged (", OneLine(answer), ")"));
  Statement references = database_->Prepare("PRAGMA foreign_key_check");
  COWL_ASSIGN_OR_RETURN(const bool broken, references.Step());
  if (!broken) return absl::OkStatus();
  return DataLoss(absl::StrCat(database_->path(), ": damaged (a row of table ",
                               references.TextAt(0), " refers to one of table ",
                               references.TextAt(2), " that is not there)"));
}

}  // namespace cowl
