#include "attach/fuse_loop.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>

#include "attach/fuse_serve.h"
#include "attach/mount_table.h"
#include "attach/text_file.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "base/units.h"

namespace cowl {
namespace {

constexpr char kRunFolder[] = "/run/cowl";
constexpr int kSettleMsMax = 5000;
constexpr int kForcedEndMsMax = 200;
constexpr int kFreeLoopTries = 16;
constexpr int kDefaultConnections = 4;

template <typename Condition>
bool WaitFor(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kSettleMsMax);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// The random end of the identifier: what mount table and file name show of it.
std::string Token(const Attachment& attachment) {
  return attachment.backend_id.substr(attachment.backend_id.rfind(':') + 1);
}

std::string MountSource(const Attachment& attachment) { return "cowl-" + Token(attachment); }

std::string BackingFile(const std::string& loop_name) {
  return ReadLine("/sys/block/" + loop_name + "/loop/backing_file");
}

bool IsOurFuse(const Attachment& attachment) {
  const std::vector<MountEntry> table = MountTable();
  const MountEntry* mount = FindMount(table, attachment.fuse_file);
  return mount != nullptr && mount->source == MountSource(attachment);
}

FuseProcess ProcessOf(const Attachment& attachment) {
  return {attachment.fuse_pid, attachment.fuse_pid_started};
}

// That process serves this file, by its command line: a pid alone proves nothing.
bool IsOurProcess(const Attachment& attachment) {
  if (!IsRunning(ProcessOf(attachment))) return false;
  const absl::StatusOr<std::string> words =
      ReadTextFile("/proc/" + std::to_string(attachment.fuse_pid) + "/cmdline");
  if (!words.ok()) return false;
  const std::vector<std::string_view> split = SplitWords(*words, '\0');
  return std::find(split.begin(), split.end(), attachment.fuse_file) != split.end();
}

absl::Status StartFile(Attachment* attachment) {
  if (mkdir(kRunFolder, 0700) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, "mkdir", kRunFolder);
  const std::string& file = attachment->fuse_file;
  const UniqueFd made(open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!made.valid()) return ErrnoStatus(errno, "make", file);
  FuseOptions options;
  options.socket_path = attachment->socket_path;
  options.export_name = attachment->export_name;
  options.identity = attachment->identity;
  options.file = file;
  options.source = MountSource(*attachment);
  options.read_only = attachment->read_only;
  options.connections = attachment->connections;
  options.dead_server_timeout_s = attachment->dead_server_timeout_s;
  COWL_ASSIGN_OR_RETURN(const FuseProcess process, StartFuse(options));
  attachment->fuse_pid = process.pid;
  attachment->fuse_pid_started = process.started;
  return absl::OkStatus();
}

// One try to make a free loop device ours. Unavailable: somebody else took it in between.
absl::StatusOr<std::string> ConfigureFreeLoop(int control, int file, const Attachment& attachment) {
  const int number = ioctl(control, LOOP_CTL_GET_FREE);
  if (number < 0) return ErrnoStatus(errno, "find a free loop device by", "/dev/loop-control");
  const std::string device = "/dev/loop" + std::to_string(number);
  const UniqueFd loop(open(device.c_str(), (attachment.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!loop.valid()) return ErrnoStatus(errno, "open", device);
  loop_config config = {};
  config.fd = static_cast<uint32_t>(file);
  config.block_size = kSectorBytes;
  // Direct: requests go on to the FUSE file as they come, many at a time, and nothing is cached in
  // between.
  config.info.lo_flags = LO_FLAGS_DIRECT_IO | (attachment.read_only ? LO_FLAGS_READ_ONLY : 0);
  std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), attachment.fuse_file.c_str(),
               LO_NAME_SIZE - 1);
  if (ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return device;
  if (errno == EBUSY) return Unavailable(device + " was taken");
  return ErrnoStatus(errno, "configure", device);
}

absl::StatusOr<std::string> ConfigureLoop(const Attachment& attachment) {
  const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) return ErrnoStatus(errno, "open", "/dev/loop-control");
  const UniqueFd file(
      open(attachment.fuse_file.c_str(), (attachment.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
  if (!file.valid()) return ErrnoStatus(errno, "open", attachment.fuse_file);
  absl::StatusOr<std::string> device;
  for (int i = 0; i < kFreeLoopTries; ++i) {
    device = ConfigureFreeLoop(control.get(), file.get(), attachment);
    if (device.ok() || !absl::IsUnavailable(device.status())) break;
  }
  return device;
}

absl::Status ClearLoop(const Attachment& attachment) {
  const UniqueFd loop(open(attachment.device.c_str(), O_RDONLY | O_CLOEXEC));
  // Looked at while held open, so that the number cannot pass to another in between.
  if (!loop.valid() || !IsOurLoop(attachment)) return absl::OkStatus();
  // While others have it open the kernel notes it and clears it at the last close.
  if (ioctl(loop.get(), LOOP_CLR_FD) != 0 && errno != ENXIO)
    return ErrnoStatus(errno, "clear", attachment.device);
  return absl::OkStatus();
}

// Ends the process by unmounting its file. With `force` its requests fail first.
absl::Status EndFuse(const Attachment& attachment, bool force) {
  const char* file = attachment.fuse_file.c_str();
  if (IsOurFuse(attachment)) {
    int error = 0;
    const bool gone = WaitFor([&] {
      error = umount2(file, UMOUNT_NOFOLLOW) == 0 ? 0 : errno;
      return error != EBUSY || force;
    });
    if (error == EBUSY && force)
      error = umount2(file, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : errno;
    if (!gone || error != 0) return ErrnoStatus(error, "unmount", file);
  }
  if (unlink(file) != 0 && errno != ENOENT) return ErrnoStatus(errno, "unlink", file);
  if (IsOurProcess(attachment) &&
      !WaitForEnd(ProcessOf(attachment), force ? kForcedEndMsMax : kSettleMsMax)) {
    EndProcess(ProcessOf(attachment));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PrepareLoop() {
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse.valid())
    return Unavailable(std::string("/dev/fuse cannot be used (") + strerror(errno) +
                       "): load the fuse module");
  const UniqueFd control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) {
    return Unavailable(std::string("/dev/loop-control cannot be used (") + strerror(errno) +
                       "): load the loop module");
  }
  return absl::OkStatus();
}

std::string FuseFilePath(const Attachment& attachment) {
  return std::string(kRunFolder) + "/" + attachment.name + "." + Token(attachment);
}

absl::Status ConnectLoop(Attachment* attachment) {
  if (attachment->connections == 0) attachment->connections = kDefaultConnections;
  absl::Status status = StartFile(attachment);
  if (status.ok()) {
    absl::StatusOr<std::string> device = ConfigureLoop(*attachment);
    status = device.status();
    if (device.ok()) attachment->device = *std::move(device);
  }
  if (!status.ok()) (void)EndFuse(*attachment, /*force=*/true);
  return status;
}

bool IsOurLoop(const Attachment& attachment) {
  constexpr std::string_view kPrefix = "/dev/";
  if (!attachment.device.starts_with(kPrefix) || attachment.fuse_file.empty()) return false;
  return BackingFile(attachment.device.substr(kPrefix.size())) == attachment.fuse_file;
}

absl::Status CheckFuse(const Attachment& attachment) {
  if (IsOurProcess(attachment)) return absl::OkStatus();
  return absl::AbortedError(attachment.device + ": process " + std::to_string(attachment.fuse_pid) +
                            ", which brought its requests to the server, is gone, and they fail");
}

absl::StatusOr<std::string> FindLoop(const std::string& fuse_file) {
  const std::unique_ptr<DIR, int (*)(DIR*)> blocks(opendir("/sys/block"), closedir);
  while (const dirent* entry = blocks ? readdir(blocks.get()) : nullptr) {
    const std::string name = entry->d_name;
    if (name.starts_with("loop") && BackingFile(name) == fuse_file) return "/dev/" + name;
  }
  return NotFound("no loop device stands on " + fuse_file);
}

absl::Status ResizeLoop(const Attachment& attachment, uint64_t size_bytes) {
  // The FUSE process takes a truncate for the question how large the export is now, and refuses
  // when it is not that size.
  if (truncate(attachment.fuse_file.c_str(), static_cast<off_t>(size_bytes)) != 0) {
    return ErrnoStatus(errno, "take over the size at", attachment.fuse_file);
  }
  const UniqueFd loop(open(attachment.device.c_str(), O_RDONLY | O_CLOEXEC));
  if (!loop.valid()) return ErrnoStatus(errno, "open", attachment.device);
  if (!IsOurLoop(attachment))
    return NotFound(attachment.device + " is no longer the device that cowl attached");
  if (ioctl(loop.get(), LOOP_SET_CAPACITY) != 0)
    return ErrnoStatus(errno, "resize", attachment.device);
  return absl::OkStatus();
}

absl::Status DisconnectLoop(const Attachment& attachment, bool force) {
  // Makes every request fail that waits for a server which is gone; refused as busy, but done.
  if (force && IsOurFuse(attachment))
    umount2(attachment.fuse_file.c_str(), MNT_FORCE | UMOUNT_NOFOLLOW);
  COWL_RETURN_IF_ERROR(ClearLoop(attachment));
  const bool cleared = WaitFor([&] { return force || !IsOurLoop(attachment); });
  if (!cleared)
    return FailedPrecondition(attachment.device + " is still in use; close what has it open");
  return EndFuse(attachment, force);
}

}  // namespace cowl
