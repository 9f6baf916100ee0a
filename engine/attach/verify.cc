#include "attach/verify.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>

#include "attach/fuse_loop.h"
#include "attach/kernel_nbd.h"
#include "attach/text_file.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr int kLockWaitMs = 10000;

// A mount is of a device when it shows its number, or, as btrfs does with numbers of its own, its
// path.
bool IsOfDevice(const MountEntry& entry, const std::string& device) {
  if (entry.source == device) return true;
  const std::string name = device.substr(device.rfind('/') + 1);
  return !name.empty() && entry.device_number == ReadLine("/sys/block/" + name + "/dev");
}

// What a crash left without a device may have one all the same: it died before it could write it
// down.
Attachment FindDevice(const Attachment& recorded) {
  Attachment attachment = recorded;
  if (!attachment.device.empty()) return attachment;
  if (attachment.kind == AttachKind::kNbd) {
    if (const absl::StatusOr<uint32_t> index = FindNbd(attachment.backend_id); index.ok()) {
      attachment.nbd_index = *index;
      attachment.device = "/dev/nbd" + std::to_string(*index);
    }
  } else if (const absl::StatusOr<std::string> device = FindLoop(attachment.fuse_file);
             device.ok()) {
    attachment.device = *device;
  }
  return attachment;
}

std::string DescribeStale(const Record& record) {
  const std::string what = record.attachment.name + ": ";
  if (record.boot_id != BootId()) return what + "a record of before the last reboot";
  if (!record.complete) return what + "an attachment that was never finished";
  return what + "a record whose device " + record.attachment.device + " is gone";
}

absl::StatusOr<std::vector<std::string>> WalkStale(const std::string& store_dir, bool clean) {
  COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, RecordNames(store_dir));
  std::vector<std::string> lines;
  for (const std::string& name : names) {
    // Under the lock, since an attach at work also looks unfinished.
    const absl::StatusOr<RecordLock> lock =
        RecordLock::Take(store_dir, name, clean ? kLockWaitMs : 0);
    if (!lock.ok()) continue;
    const absl::StatusOr<Record> record = ReadRecord(store_dir, name);
    if (absl::IsNotFound(record.status())) continue;
    if (!record.ok()) {
      lines.push_back(Message(record.status()));
      continue;
    }
    if (record->complete && IsAlive(*record)) continue;
    const absl::Status undone = clean ? UndoRecord(store_dir, *record) : absl::OkStatus();
    lines.push_back(undone.ok() ? DescribeStale(*record)
                                : DescribeStale(*record) + ", not removed: " + Message(undone));
  }
  return lines;
}

}  // namespace

bool IsAlive(const Record& record) {
  if (record.boot_id != BootId()) return false;
  const Attachment& attachment = record.attachment;
  return attachment.kind == AttachKind::kNbd ? IsOurNbd(attachment) : IsOurLoop(attachment);
}

bool IsOurMount(const Attachment& attachment, const std::vector<MountEntry>& table) {
  const MountEntry* mount = FindMount(table, attachment.mount);
  return mount != nullptr && !attachment.device.empty() && IsOfDevice(*mount, attachment.device);
}

bool HasMount(const Attachment& attachment, const std::vector<MountEntry>& table) {
  for (const MountEntry& entry : table) {
    if (entry.mount_point == attachment.mount && IsOfDevice(entry, attachment.device)) return true;
  }
  return false;
}

absl::Status UndoRecord(const std::string& store_dir, const Record& record) {
  Record found = record;
  found.attachment = FindDevice(record.attachment);
  const Attachment& attachment = found.attachment;
  // After a reboot there is nothing but the record; device numbers and pids belong to others now.
  if (record.boot_id == BootId()) {
    const bool alive = !attachment.device.empty() && IsAlive(found);
    if (alive && IsOurMount(attachment, MountTable()) &&
        umount2(attachment.mount.c_str(), UMOUNT_NOFOLLOW) != 0) {
      return ErrnoStatus(errno, "unmount", attachment.mount);
    }
    if (attachment.kind == AttachKind::kLoop) {
      COWL_RETURN_IF_ERROR(DisconnectLoop(attachment, /*force=*/false));
    } else if (alive) {
      COWL_RETURN_IF_ERROR(DisconnectNbd(attachment));
    }
  }
  return RemoveRecord(store_dir, record.attachment.name);
}

absl::StatusOr<std::vector<Attachment>> Attachments(const std::string& store_dir) {
  COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, RecordNames(store_dir));
  std::vector<Attachment> attachments;
  for (const std::string& name : names) {
    const absl::StatusOr<Record> record = ReadRecord(store_dir, name);
    if (record.ok() && record->complete && IsAlive(*record))
      attachments.push_back(record->attachment);
  }
  return attachments;
}

absl::StatusOr<Attachment> FindAttachment(const std::string& store_dir, const std::string& name) {
  COWL_ASSIGN_OR_RETURN(Record record, ReadRecord(store_dir, name));
  if (!record.complete || !IsAlive(record)) return NotFound(name + " is not attached");
  return std::move(record.attachment);
}

absl::StatusOr<std::vector<std::string>> CleanStale(const std::string& store_dir) {
  return WalkStale(store_dir, true);
}
absl::StatusOr<std::vector<std::string>> FindStale(const std::string& store_dir) {
  return WalkStale(store_dir, false);
}

}  // namespace cowl
