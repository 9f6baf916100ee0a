#include "attach/record.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <thread>

#include "attach/text_file.h"
#include "base/status.h"
#include "nlohmann/json.hpp"

namespace cowl {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kRecordSuffix = ".json";
constexpr int kRecordSchema = 1;

std::string Folder(const std::string& store_dir) { return store_dir + "/attach"; }

std::string RecordPath(const std::string& store_dir, const std::string& name) {
  return Folder(store_dir) + "/" + name + std::string(kRecordSuffix);
}

// Names come from the command line and from directory listings: nothing that leads out of the
// folder gets through.
absl::Status CheckName(const std::string& name) {
  const bool bad = name.empty() || name[0] == '.' || name.size() > 300 ||
                   std::any_of(name.begin(), name.end(),
                               [](unsigned char c) { return c <= 32 || c == 127 || c == '/'; });
  return bad ? InvalidArgument("not the name of a device or image") : absl::OkStatus();
}

absl::Status MakeFolder(const std::string& store_dir) {
  const std::string folder = Folder(store_dir);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, "mkdir", folder);
  return absl::OkStatus();
}

// Takes a field of the right type, or leaves the default and notes that the document is wrong.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  void Get(const char* key, std::string* into) {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_string()) return Fail(key);
    *into = it->get_ref<const std::string&>();
  }
  void Get(const char* key, bool* into) {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_boolean()) return Fail(key);
    *into = *it->get_ptr<const bool*>();
  }
  template <typename Number>
  void GetNumber(const char* key, Number* into) {
    const auto it = object_.find(key);
    if (it == object_.end() || !it->is_number_unsigned()) return Fail(key);
    *into = static_cast<Number>(*it->get_ptr<const Json::number_unsigned_t*>());
  }
  const std::string& wrong() const { return wrong_; }

 private:
  void Fail(const char* key) {
    if (wrong_.empty()) wrong_ = key;
  }
  const Json& object_;
  std::string wrong_;
};

}  // namespace

absl::StatusOr<RecordLock> RecordLock::Take(const std::string& store_dir, const std::string& name,
                                            int wait_ms) {
  COWL_RETURN_IF_ERROR(CheckName(name));
  COWL_RETURN_IF_ERROR(MakeFolder(store_dir));
  const std::string path = Folder(store_dir) + "/" + name + ".lock";
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  // The file stays when the lock goes: removing it would let two processes lock two files of one
  // name.
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, "open", path);
  while (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) return ErrnoStatus(errno, "flock", path);
    if (std::chrono::steady_clock::now() >= deadline) {
      return Unavailable("another attach or detach of " + name +
                         " is at work; try again when it has ended");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return RecordLock(std::move(fd));
}

std::string BootId() { return ReadLine("/proc/sys/kernel/random/boot_id"); }

std::string EncodeRecord(const Record& record) {
  const Attachment& a = record.attachment;
  const Json document = {
      {"schema", kRecordSchema},
      {"complete", record.complete},
      {"boot_id", record.boot_id},
      {"name", a.name},
      {"export", a.export_name},
      {"socket", a.socket_path},
      {"kind", a.kind == AttachKind::kNbd ? "nbd" : "loop"},
      {"device", a.device},
      {"mount", a.mount},
      {"file_system", a.file_system},
      {"read_only", a.read_only},
      {"size_bytes", a.size_bytes},
      {"backend_id", a.backend_id},
      {"identity", a.identity},
      {"fuse_file", a.fuse_file},
      {"fuse_pid", static_cast<uint64_t>(a.fuse_pid)},
      {"fuse_pid_started", a.fuse_pid_started},
      {"nbd_index", a.nbd_index},
      {"connections", static_cast<uint64_t>(a.connections)},
      {"dead_server_timeout_s", a.dead_server_timeout_s},
  };
  // A path may hold bytes that are no UTF-8; they are shown, never thrown.
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Record> DecodeRecord(std::string_view text) {
  const Json document = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) return DataLoss("not a JSON object");
  Record record;
  Attachment& a = record.attachment;
  Fields fields(document);
  uint64_t schema = 0;
  std::string kind;
  fields.GetNumber("schema", &schema);
  fields.Get("complete", &record.complete);
  fields.Get("boot_id", &record.boot_id);
  fields.Get("name", &a.name);
  fields.Get("export", &a.export_name);
  fields.Get("socket", &a.socket_path);
  fields.Get("kind", &kind);
  fields.Get("device", &a.device);
  fields.Get("mount", &a.mount);
  fields.Get("file_system", &a.file_system);
  fields.Get("read_only", &a.read_only);
  fields.GetNumber("size_bytes", &a.size_bytes);
  fields.Get("backend_id", &a.backend_id);
  fields.Get("identity", &a.identity);
  fields.Get("fuse_file", &a.fuse_file);
  fields.GetNumber("fuse_pid", &a.fuse_pid);
  fields.GetNumber("fuse_pid_started", &a.fuse_pid_started);
  fields.GetNumber("nbd_index", &a.nbd_index);
  fields.GetNumber("connections", &a.connections);
  fields.GetNumber("dead_server_timeout_s", &a.dead_server_timeout_s);
  if (!fields.wrong().empty())
    return DataLoss("field " + fields.wrong() + " is missing or of the wrong type");
  if (schema != kRecordSchema)
    return DataLoss("schema " + std::to_string(schema) + " is not known here");
  if (kind != "nbd" && kind != "loop") return DataLoss("kind is neither nbd nor loop");
  a.kind = kind == "nbd" ? AttachKind::kNbd : AttachKind::kLoop;
  return record;
}

absl::StatusOr<Record> ReadRecord(const std::string& store_dir, const std::string& name) {
  COWL_RETURN_IF_ERROR(CheckName(name));
  const std::string path = RecordPath(store_dir, name);
  absl::StatusOr<std::string> text = ReadTextFile(path);
  if (absl::IsNotFound(text.status())) return NotFound(name + " is not attached");
  if (!text.ok()) return text.status();
  absl::StatusOr<Record> record = DecodeRecord(*text);
  if (!record.ok()) {
    return Annotate(record.status(),
                    path + " is damaged (remove it once nothing of " + name + " is attached)");
  }
  if (record->attachment.name != name) return DataLoss(path + ": is the record of another name");
  return record;
}

absl::Status WriteRecord(const std::string& store_dir, const Record& record) {
  COWL_RETURN_IF_ERROR(CheckName(record.attachment.name));
  COWL_RETURN_IF_ERROR(MakeFolder(store_dir));
  return ReplaceTextFile(RecordPath(store_dir, record.attachment.name), EncodeRecord(record));
}

absl::Status RemoveRecord(const std::string& store_dir, const std::string& name) {
  COWL_RETURN_IF_ERROR(CheckName(name));
  const std::string path = RecordPath(store_dir, name);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, "unlink", path);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RecordNames(const std::string& store_dir) {
  const std::string folder = Folder(store_dir);
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(folder.c_str()), closedir);
  if (!directory) {
    if (errno == ENOENT) return std::vector<std::string>();
    return ErrnoStatus(errno, "opendir", folder);
  }
  std::vector<std::string> names;
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view file = entry->d_name;
    if (file.size() <= kRecordSuffix.size() || !file.ends_with(kRecordSuffix)) continue;
    const std::string name(file.substr(0, file.size() - kRecordSuffix.size()));
    if (CheckName(name).ok()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace cowl
