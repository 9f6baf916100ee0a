// record.h: what is attached, written down: one JSON document an attachment in STORE/attach, one
// lock file beside each. Ownership: a RecordLock is held as long as it lives. Threads and
// processes: whoever writes or removes a record holds its lock; reading needs none, since records
// are replaced whole. Errors: DataLoss for a record that is not one of ours. Durability: none
// needed: after a reboot every record is stale (it holds the boot's id).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attach/attach.h"
#include "base/unique_fd.h"

namespace cowl {

struct Record {
  Attachment attachment;
  // False from before the kernel is asked until everything stands: a crash in between leaves it so,
  // and CleanStale undoes what there is.
  bool complete = false;
  std::string boot_id;
};

class RecordLock {
 public:
  // Unavailable when another process works on the same name for longer than `wait_ms`.
  static absl::StatusOr<RecordLock> Take(const std::string& store_dir, const std::string& name,
                                         int wait_ms);

 private:
  explicit RecordLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// This boot of this kernel.
std::string BootId();

absl::StatusOr<Record> ReadRecord(const std::string& store_dir, const std::string& name);
absl::Status WriteRecord(const std::string& store_dir, const Record& record);
absl::Status RemoveRecord(const std::string& store_dir, const std::string& name);
// Names, sorted. A store that never had an attachment has none.
absl::StatusOr<std::vector<std::string>> RecordNames(const std::string& store_dir);

// Pure: the document of a record and back.
std::string EncodeRecord(const Record& record);
absl::StatusOr<Record> DecodeRecord(std::string_view text);

}  // namespace cowl
