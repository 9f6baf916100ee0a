#include "support/recording_storage.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {

using Op = IoRequest::Op;
using Kind = DiskEvent::Kind;

namespace {

const char* NameOf(Op op) {
  switch (op) {
    case Op::kRead:
      return "read";
    case Op::kWrite:
      return "write";
    case Op::kSync:
      return "sync";
    case Op::kAllocate:
      return "allocate";
    case Op::kPunchHole:
      return "punch";
    case Op::kTruncate:
      return "truncate";
  }
  return "?";
}

std::vector<std::byte> Gather(std::span<const iovec> buffers) {
  std::vector<std::byte> bytes;
  for (const iovec& buffer : buffers) {
    const auto* const from = static_cast<const std::byte*>(buffer.iov_base);
    bytes.insert(bytes.end(), from, from + buffer.iov_len);
  }
  return bytes;
}

}  // namespace

std::string DiskEvent::ToString() const {
  switch (kind) {
    case Kind::kChangeBegan:
      return absl::StrCat(NameOf(op), " file ", file, " at ", offset_bytes, " for ", length_bytes);
    case Kind::kChangeDone:
      return absl::StrCat("done: event ", begun);
    case Kind::kSyncBegan:
      return absl::StrCat("sync file ", file);
    case Kind::kSyncDone:
      return absl::StrCat("synced file ", file, ": event ", begun);
    case Kind::kSyncFailed:
      return absl::StrCat("sync failed of file ", file, ": event ", begun);
    case Kind::kCreate:
      return absl::StrCat("create ", name, " as file ", file);
    case Kind::kRemove:
      return absl::StrCat("remove ", name);
    case Kind::kRename:
      return absl::StrCat("rename ", name, " to ", new_name);
    case Kind::kSyncDirectory:
      return absl::StrCat("sync folder \"", name, "\"");
    case Kind::kMarker:
      return absl::StrCat("marker ", name);
  }
  return "?";
}

size_t DiskLog::PositionAfter(const std::string& marker) const {
  const auto found = std::find_if(events.begin(), events.end(), [&](const DiskEvent& event) {
    return event.kind == Kind::kMarker && event.name == marker;
  });
  COWL_CHECK(found != events.end());
  return static_cast<size_t>(found - events.begin()) + 1;
}

class RecordingFile : public File {
 public:
  RecordingFile(RecordingStorage& storage, uint32_t number, std::unique_ptr<File> inner)
      : File(inner->path()), storage_(storage), number_(number), inner_(std::move(inner)) {}
  ~RecordingFile() override {
    for (const auto& held : storage_.held_)
      COWL_CHECK(held.file != this);  // a File outlives its requests
  }

  absl::StatusOr<uint64_t> SizeBytes() const override { return inner_->SizeBytes(); }
  absl::StatusOr<uint64_t> DiskBytes() const override { return inner_->DiskBytes(); }
  bool Start(IoRequest& request) override { return storage_.Start(*this, request); }

  uint32_t number() const { return number_; }
  File& inner() { return *inner_; }

 private:
  RecordingStorage& storage_;
  const uint32_t number_;
  const std::unique_ptr<File> inner_;
};

RecordingStorage::RecordingStorage(const MemoryStorage& initial) : live_(initial.Clone()) {
  log_.initial = initial.Clone();
  for (const auto& [name, content] : live_.files()) files_.emplace(name, next_file_++);
  log_.initial_files = files_;
}

RecordingStorage::~RecordingStorage() { COWL_CHECK(held_.empty()); }

absl::StatusOr<std::unique_ptr<File>> RecordingStorage::Open(const std::string& name,
                                                             OpenMode mode) {
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<File> inner, live_.Open(name, mode));
  if (mode == OpenMode::kCreate) {
    const uint32_t number = next_file_++;
    files_[name] = number;
    log_.events.push_back({.kind = Kind::kCreate, .file = number, .name = name});
  }
  return std::make_unique<RecordingFile>(*this, files_.at(name), std::move(inner));
}

absl::Status RecordingStorage::Remove(const std::string& name) {
  COWL_RETURN_IF_ERROR(live_.Remove(name));
  log_.events.push_back({.kind = Kind::kRemove, .file = files_.at(name), .name = name});
  files_.erase(name);
  return absl::OkStatus();
}

absl::Status RecordingStorage::Rename(const std::string& from, const std::string& to) {
  COWL_RETURN_IF_ERROR(live_.Rename(from, to));
  const uint32_t number = files_.at(from);
  log_.events.push_back({.kind = Kind::kRename, .file = number, .name = from, .new_name = to});
  files_.erase(from);
  files_[to] = number;
  return absl::OkStatus();
}

absl::Status RecordingStorage::SyncDirectory(const std::string& folder) {
  log_.events.push_back({.kind = Kind::kSyncDirectory, .name = folder});
  return absl::OkStatus();
}

size_t RecordingStorage::Mark(const std::string& text) {
  log_.events.push_back({.kind = Kind::kMarker, .name = text});
  return position();
}

size_t RecordingStorage::LogBegin(RecordingFile& file, const IoRequest& request) {
  DiskEvent event{.kind = request.op == Op::kSync ? Kind::kSyncBegan : Kind::kChangeBegan,
                  .op = request.op,
                  .file = file.number(),
                  .offset_bytes = request.offset_bytes,
                  .length_bytes = request.length_bytes};
  if (request.op == Op::kWrite) {
    event.bytes = Gather(request.buffers);
    event.length_bytes = event.bytes.size();
  }
  log_.events.push_back(std::move(event));
  return position() - 1;
}

bool RecordingStorage::Start(RecordingFile& file, IoRequest& request) {
  const bool is_read = request.op == Op::kRead;
  if (is_read && !hold_reads_) return file.inner().Start(request);
  const size_t begun = is_read ? 0 : LogBegin(file, request);
  int error_number = 0;
  if (request.op == Op::kSync && failing_sync_in_ > 0 && --failing_sync_in_ == 0)
    error_number = failing_sync_errno_;
  const bool is_held = is_read                   ? true
                       : request.op == Op::kSync ? hold_syncs_ && error_number == 0
                                                 : hold_changes_;
  if (is_held) {
    held_.push_back({next_held_++, &file, &request, begun});
    return false;
  }
  Finish(file, request, begun, error_number);
  return true;
}

void RecordingStorage::Finish(RecordingFile& file, IoRequest& request, size_t begun,
                              int sync_error_number) {
  if (request.op == Op::kRead) {
    COWL_CHECK(file.inner().Start(request));
    return;
  }
  if (request.op == Op::kSync) {
    request.status = sync_error_number == 0 ? absl::OkStatus()
                                            : ErrnoStatus(sync_error_number, "sync", file.path());
    log_.events.push_back({.kind = sync_error_number == 0 ? Kind::kSyncDone : Kind::kSyncFailed,
                           .op = request.op,
                           .file = file.number(),
                           .begun = begun});
    return;
  }
  COWL_CHECK(file.inner().Start(request));
  if (!request.status.ok()) {
    log_.events[begun].kind = Kind::kMarker;  // refused: nothing began
    log_.events[begun].name = Message(request.status);
    return;
  }
  log_.events.push_back(
      {.kind = Kind::kChangeDone, .op = request.op, .file = file.number(), .begun = begun});
}

std::vector<RecordingStorage::Held> RecordingStorage::held() const {
  std::vector<Held> list;
  for (const HeldRequest& held : held_) {
    list.push_back({held.id, held.request->op, held.file->path(), held.request->offset_bytes});
  }
  return list;
}

RecordingStorage::HeldRequest RecordingStorage::TakeHeld(uint64_t id) {
  const auto found = std::find_if(held_.begin(), held_.end(),
                                  [&](const HeldRequest& held) { return held.id == id; });
  COWL_CHECK(found != held_.end());
  const HeldRequest taken = *found;
  held_.erase(found);
  return taken;
}

void RecordingStorage::Complete(uint64_t id) {
  const HeldRequest held = TakeHeld(id);
  Finish(*held.file, *held.request, held.begun, 0);
  held.request->waiter.resume();
}

void RecordingStorage::FailSync(uint64_t id, int error_number) {
  const HeldRequest held = TakeHeld(id);
  COWL_CHECK(held.request->op == Op::kSync);
  Finish(*held.file, *held.request, held.begun, error_number);
  held.request->waiter.resume();
}

void RecordingStorage::FailNthSync(uint64_t nth, int error_number) {
  failing_sync_in_ = nth;
  failing_sync_errno_ = error_number;
}

void RecordingStorage::CompleteOldest() {
  COWL_CHECK(!held_.empty());
  Complete(held_.front().id);
}

void RecordingStorage::CompleteAny(std::mt19937_64& random) {
  COWL_CHECK(!held_.empty());
  Complete(held_[random() % held_.size()].id);
}

void RecordingStorage::Abandon(std::mt19937_64& random) {
  // Kept where leak checkers see it: the frames that will never go on, and all they hold.
  static auto& abandoned = *new std::vector<HeldRequest>;
  while (!held_.empty()) {
    const HeldRequest held = TakeHeld(held_.front().id);
    abandoned.push_back(held);
    const bool is_change = held.request->op != Op::kRead && held.request->op != Op::kSync;
    if (is_change && random() % 2 == 0) {
      Finish(*held.file, *held.request, held.begun, 0);
    } else if (is_change) {
      log_.events[held.begun].kind = Kind::kMarker;
      log_.events[held.begun].name = "killed before";
    }
  }
}

void RecordingStorage::CompleteAll() {
  while (!held_.empty()) CompleteOldest();
}

}  // namespace cowl
