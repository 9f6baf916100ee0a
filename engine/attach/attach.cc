#include "attach/attach.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "attach/fuse_loop.h"
#include "attach/kernel_nbd.h"
#include "attach/mount.h"
#include "attach/mount_table.h"
#include "attach/nbd_client.h"
#include "attach/record.h"
#include "attach/verify.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "base/units.h"

namespace cowl {
namespace {

constexpr int kLockWaitMs = 10000;
constexpr int kHandshakeMsMax = 10000;
constexpr int kConnectionsMax = 16;

// "cowl:WHAT:16 hexadecimal digits": nobody else's device has it, not even an earlier one of the
// same name.
std::string NewBackendId(const AttachRequest& request) {
  std::string what =
      request.backend_id.empty() ? request.store_dir + ":" + request.name : request.backend_id;
  // The kernel shows it as one line.
  std::replace_if(
      what.begin(), what.end(), [](unsigned char c) { return c < 32 || c == 127; }, '?');
  uint64_t random = 0;
  COWL_CHECK(getrandom(&random, sizeof(random), 0) == sizeof(random));
  char token[17];
  std::snprintf(token, sizeof(token), "%016llx", static_cast<unsigned long long>(random));
  return "cowl:" + what + ":" + token;
}

absl::Status CheckExport(const AttachRequest& request, const ExportInfo& info) {
  if (info.size_bytes < kSectorBytes || info.size_bytes % kSectorBytes != 0) {
    return InvalidArgument("export " + request.export_name + " has " +
                           std::to_string(info.size_bytes) +
                           " bytes; a block device needs a multiple of 512");
  }
  if (request.size_bytes != 0 && request.size_bytes != info.size_bytes) {
    return FailedPrecondition("the server on " + request.socket_path + " says " +
                              std::to_string(info.size_bytes) + " bytes of " + request.export_name +
                              ", not " + std::to_string(request.size_bytes) +
                              ": is it another store's?");
  }
  return absl::OkStatus();
}

// Everything that is known before the kernel is asked for anything.
absl::StatusOr<Attachment> Plan(const AttachRequest& request) {
  if (!request.mount_dir.empty()) COWL_RETURN_IF_ERROR(CheckMountDirectory(request.mount_dir));
  COWL_ASSIGN_OR_RETURN(
      const std::unique_ptr<NbdClient> client,
      NbdClient::Connect(request.socket_path, request.export_name, kHandshakeMsMax));
  const ExportInfo& info = client->info();
  COWL_RETURN_IF_ERROR(CheckExport(request, info));
  Attachment plan;
  plan.name = request.name;
  plan.export_name = request.export_name;
  plan.socket_path = request.socket_path;
  plan.mount = request.mount_dir;
  plan.read_only = request.read_only || info.read_only;
  plan.size_bytes = info.size_bytes;
  plan.identity = info.identity;
  plan.backend_id = NewBackendId(request);
  plan.connections = info.multi_conn ? std::clamp(request.connections, 0, kConnectionsMax) : 1;
  plan.dead_server_timeout_s = request.dead_server_timeout_s;
  const absl::Status nbd = request.force_loop ? Unavailable("not asked for") : PrepareNbd();
  plan.kind = nbd.ok() ? AttachKind::kNbd : AttachKind::kLoop;
  if (!nbd.ok()) {
    COWL_RETURN_IF_ERROR(
        Annotate(PrepareLoop(), "neither nbd nor a loop device can be had: " + Message(nbd)));
    plan.fuse_file = FuseFilePath(plan);
  }
  return plan;
}

absl::Status Connect(Attachment* attachment) {
  return attachment->kind == AttachKind::kNbd ? ConnectNbd(attachment) : ConnectLoop(attachment);
}

absl::Status MountAttachment(Attachment* attachment) {
  if (attachment->mount.empty()) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(attachment->file_system, DetectFileSystem(attachment->device));
  return MountDevice(attachment->device, attachment->mount, attachment->file_system,
                     attachment->read_only);
}

// From the first line of the record to the last, so that whatever happens in between can be undone
// by what is written.
absl::Status CarryOut(const std::string& store_dir, Record* record) {
  COWL_RETURN_IF_ERROR(WriteRecord(store_dir, *record));
  COWL_RETURN_IF_ERROR(Connect(&record->attachment));
  COWL_RETURN_IF_ERROR(WriteRecord(store_dir, *record));
  COWL_RETURN_IF_ERROR(MountAttachment(&record->attachment));
  record->complete = true;
  return WriteRecord(store_dir, *record);
}

// A record in the way: AlreadyExists when it holds, else its remains are cleared.
absl::Status MakeWay(const std::string& store_dir, const std::string& name) {
  absl::StatusOr<Record> old = ReadRecord(store_dir, name);
  if (absl::IsNotFound(old.status())) return absl::OkStatus();
  if (!old.ok()) return old.status();
  if (old->complete && IsAlive(*old)) {
    const std::string mount =
        old->attachment.mount.empty() ? "" : ", mounted at " + old->attachment.mount;
    return AlreadyExists(name + " is attached already as " + old->attachment.device + mount);
  }
  return UndoRecord(store_dir, *old);
}

absl::Status Busy(const std::string& what, const std::vector<std::string>& users) {
  std::string names;
  for (const std::string& user : users) names += (names.empty() ? "" : ", ") + user;
  if (names.empty()) names = "somebody outside of what this process can see";
  return FailedPrecondition(what + " is in use by " + names +
                            "; close that first, or detach with --force");
}

absl::Status RequireServer(const Attachment& attachment) {
  const absl::Status served = CheckServed(attachment);
  if (served.ok()) return served;
  const std::string first =
      absl::IsAborted(served) ? "" : "start a server there (cowl serve --listen unix:PATH), or ";
  return absl::Status(served.code(), Message(served) + "; " + first +
                                         "use --force, which loses what was not written yet");
}

bool ServerAnswers(const Attachment& attachment) { return CheckServed(attachment).ok(); }

// With force: what is dirty goes out while there is a server to take it, for afterwards it is lost.
void SyncMount(const Attachment& attachment) {
  if (!ServerAnswers(attachment)) return;
  const UniqueFd directory(open(attachment.mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.valid()) syncfs(directory.get());
}

absl::Status Unmount(const Attachment& attachment, bool force) {
  if (attachment.mount.empty()) return absl::OkStatus();
  const std::vector<MountEntry> table = MountTable();
  if (!IsOurMount(attachment, table)) {
    // Unmounted by hand, which is fine, or covered by another mount, which has to go first.
    return HasMount(attachment, table)
               ? FailedPrecondition("something else is mounted over " + attachment.mount +
                                    "; unmount that first")
               : absl::OkStatus();
  }
  if (force) SyncMount(attachment);
  // A forced unmount must not wait for a server that is gone, so it leaves the tree first and lets
  // go later.
  const bool lazy = force && !ServerAnswers(attachment);
  if (umount2(attachment.mount.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
    return absl::OkStatus();
  if (errno != EBUSY) return ErrnoStatus(errno, "unmount", attachment.mount);
  if (!force) return Busy(attachment.mount, UsersOfMount(attachment.mount));
  if (umount2(attachment.mount.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "unmount", attachment.mount);
}

// Refuses while the device is mounted, held or open elsewhere, and writes out what its page cache
// still holds.
absl::Status Quiesce(const Attachment& attachment) {
  // Exclusive: fails while a file system, a mapper or swap has the device, in whatever namespace.
  const UniqueFd device(open(attachment.device.c_str(), O_RDONLY | O_EXCL | O_CLOEXEC));
  if (!device.valid() && errno == EBUSY)
    return Busy(attachment.device, UsersOfDevice(attachment.device, ""));
  if (!device.valid()) return ErrnoStatus(errno, "open", attachment.device);
  std::vector<std::string> users = UsersOfDevice(attachment.device, "");
  const std::string own = "(pid " + std::to_string(getpid()) + ": ";
  std::erase_if(users,
                [&](const std::string& user) { return user.find(own) != std::string::npos; });
  if (!users.empty()) return Busy(attachment.device, users);
  if (fsync(device.get()) != 0) {
    return Annotate(ErrnoStatus(errno, "sync", attachment.device),
                    "use --force, which loses what was not written yet");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckRoot() {
  if (geteuid() == 0) return absl::OkStatus();
  return absl::PermissionDeniedError("attaching needs root: a block device of the kernel is made");
}

absl::StatusOr<Attachment> Attach(const AttachRequest& asked) {
  COWL_RETURN_IF_ERROR(CheckRoot());
  AttachRequest request = asked;
  if (request.export_name.empty()) request.export_name = request.name;
  COWL_ASSIGN_OR_RETURN(const RecordLock lock,
                        RecordLock::Take(request.store_dir, request.name, kLockWaitMs));
  COWL_RETURN_IF_ERROR(MakeWay(request.store_dir, request.name));
  COWL_ASSIGN_OR_RETURN(Attachment plan, Plan(request));
  Record record{std::move(plan), /*complete=*/false, BootId()};
  const absl::Status status = CarryOut(request.store_dir, &record);
  if (status.ok()) return record.attachment;
  const absl::Status undone = UndoRecord(request.store_dir, record);
  return undone.ok()
             ? status
             : Annotate(status, "(and it could not all be undone: " + Message(undone) + ")");
}

absl::Status Detach(const std::string& store_dir, const std::string& name, bool force) {
  COWL_RETURN_IF_ERROR(CheckRoot());
  COWL_RETURN_IF_ERROR(
      ReadRecord(store_dir, name).status());  // an unknown name leaves no lock file behind
  COWL_ASSIGN_OR_RETURN(const RecordLock lock, RecordLock::Take(store_dir, name, kLockWaitMs));
  COWL_ASSIGN_OR_RETURN(const Record record, ReadRecord(store_dir, name));
  const Attachment& attachment = record.attachment;
  if (!record.complete || !IsAlive(record)) {
    COWL_RETURN_IF_ERROR(UndoRecord(store_dir, record));
    return record.complete ? NotFound(name + " is not attached (its device is gone already)")
                           : absl::OkStatus();
  }
  // Without a server all below would wait for one, for minutes and beyond any signal.
  if (!force) COWL_RETURN_IF_ERROR(RequireServer(attachment));
  COWL_RETURN_IF_ERROR(Unmount(attachment, force));
  if (!force) COWL_RETURN_IF_ERROR(Quiesce(attachment));
  COWL_RETURN_IF_ERROR(attachment.kind == AttachKind::kNbd ? DisconnectNbd(attachment)
                                                           : DisconnectLoop(attachment, force));
  return RemoveRecord(store_dir, name);
}

absl::Status CheckServed(const Attachment& attachment) {
  if (attachment.kind == AttachKind::kLoop) COWL_RETURN_IF_ERROR(CheckFuse(attachment));
  constexpr int kPatienceMs = 5000;
  const absl::StatusOr<std::unique_ptr<NbdClient>> client =
      NbdClient::Connect(attachment.socket_path, attachment.export_name, kPatienceMs);
  const std::string where = attachment.device + ": the server on " + attachment.socket_path;
  if (!client.ok()) return Unavailable(where + " is gone, and what uses the device waits for it");
  if ((*client)->info().identity == attachment.identity) return absl::OkStatus();
  return FailedPrecondition(where + " has another disk now by the name " + attachment.export_name);
}

absl::Status TellResized(const std::string& store_dir, const std::string& name,
                         uint64_t size_bytes) {
  COWL_ASSIGN_OR_RETURN(const RecordLock lock, RecordLock::Take(store_dir, name, kLockWaitMs));
  COWL_ASSIGN_OR_RETURN(Record record, ReadRecord(store_dir, name));
  if (!record.complete || !IsAlive(record)) return NotFound(name + " is not attached");
  if (record.attachment.kind == AttachKind::kNbd) {
    COWL_RETURN_IF_ERROR(ReconnectNbd(record.attachment, size_bytes));
  } else {
    COWL_RETURN_IF_ERROR(ResizeLoop(record.attachment, size_bytes));
  }
  record.attachment.size_bytes = size_bytes;
  return WriteRecord(store_dir, record);
}

absl::Status Reattach(const std::string& store_dir) {
  COWL_ASSIGN_OR_RETURN(const std::vector<Attachment> attachments, Attachments(store_dir));
  absl::Status first;
  for (const Attachment& attachment : attachments) {
    if (attachment.kind != AttachKind::kNbd) continue;
    absl::StatusOr<RecordLock> lock = RecordLock::Take(store_dir, attachment.name, kLockWaitMs);
    absl::Status status = lock.status();
    if (status.ok() && IsOurNbd(attachment)) status = ReconnectNbd(attachment, 0);
    first.Update(Annotate(status, attachment.name));
  }
  return first;
}

}  // namespace cowl
