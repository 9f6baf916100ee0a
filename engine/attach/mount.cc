#include "attach/mount.h"

#include <dirent.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <memory>

#include "attach/mount_table.h"
#include "attach/run_program.h"
#include "attach/text_file.h"
#include "base/status.h"

namespace cowl {
namespace {

// The value of KEY in lines of KEY=VALUE, as blkid prints them for programs.
std::string ValueOf(const std::string& text, std::string_view key) {
  for (const std::string_view line : SplitWords(text, '\n')) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == '=') {
      return std::string(line.substr(key.size() + 1));
    }
  }
  return "";
}

int TryMount(const std::string& device, const std::string& directory,
             const std::string& file_system, bool read_only, const std::string& options) {
  const unsigned long flags = read_only ? MS_RDONLY : 0;
  const int result =
      mount(device.c_str(), directory.c_str(), file_system.c_str(), flags, options.c_str());
  return result == 0 ? 0 : errno;
}

absl::Status MountError(int error, const std::string& device, const std::string& directory,
                        const std::string& file_system) {
  const std::string where = "the " + file_system + " of " + device + " at " + directory;
  switch (error) {
    case ENODEV:
      return FailedPrecondition("mount " + where + ": this kernel does not know " + file_system);
    case EEXIST:
      return FailedPrecondition(
          "mount " + where + ": a " + file_system +
          " with the same id is mounted already, and this kernel " +
          "takes only one; unmount that first, or give this one an id of its own (btrfstune -u)");
    case EUCLEAN:
    case EINVAL:
      return FailedPrecondition("mount " + where +
                                ": the file system is damaged or needs what this kernel lacks; " +
                                "attach it without --mount and check it (fsck)");
    default:
      return ErrnoStatus(error, "mount", where);
  }
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

Directory OpenDirectory(const std::string& path) { return {opendir(path.c_str()), closedir}; }

bool OnDevice(const std::string& path, dev_t device) {
  struct stat found;
  return stat(path.c_str(), &found) == 0 && found.st_dev == device;
}

bool IsDevice(const std::string& path, dev_t device) {
  struct stat found;
  return stat(path.c_str(), &found) == 0 && S_ISBLK(found.st_mode) && found.st_rdev == device;
}

// Whether one of the process's open files meets `test`.
template <typename Test>
bool AnyOpenFile(const std::string& process, Test test) {
  const Directory files = OpenDirectory(process + "/fd");
  while (const dirent* entry = files ? readdir(files.get()) : nullptr) {
    if (entry->d_name[0] != '.' && test(process + "/fd/" + entry->d_name)) return true;
  }
  return false;
}

// Whether a mapped file of the process is on the device, which maps shows as major:minor in
// hexadecimal.
bool MapsDevice(const std::string& process, dev_t device) {
  char wanted[32];
  std::snprintf(wanted, sizeof(wanted), " %02x:%02x ", major(device), minor(device));
  const absl::StatusOr<std::string> maps = ReadTextFile(process + "/maps");
  return maps.ok() && maps->find(wanted) != std::string::npos;
}

std::string HowItUsesMount(const std::string& process, dev_t device) {
  if (OnDevice(process + "/cwd", device)) return "working directory";
  if (OnDevice(process + "/root", device)) return "root directory";
  if (OnDevice(process + "/exe", device)) return "program";
  if (AnyOpenFile(process, [device](const std::string& file) { return OnDevice(file, device); }))
    return "open file";
  if (MapsDevice(process, device)) return "mapped file";
  return "";
}

// A line for each process of which `how` says something.
template <typename How>
std::vector<std::string> ScanProcesses(How how) {
  constexpr size_t kNamedMax = 10;
  std::vector<std::string> users;
  const Directory processes = OpenDirectory("/proc");
  while (const dirent* entry = processes ? readdir(processes.get()) : nullptr) {
    uint64_t pid = 0;
    if (!ParseNumber(entry->d_name, &pid)) continue;
    const std::string process = "/proc/" + std::string(entry->d_name);
    const std::string use = how(process);
    if (use.empty()) continue;
    users.push_back(ReadLine(process + "/comm") + " (pid " + entry->d_name + ": " + use + ")");
    if (users.size() >= kNamedMax) break;
  }
  return users;
}

}  // namespace

absl::Status CheckMountDirectory(const std::string& path) {
  if (path.empty() || path[0] != '/')
    return InvalidArgument("mount directory " + path + ": must be an absolute path");
  const Directory directory = OpenDirectory(path);
  if (!directory) {
    if (errno == ENOENT)
      return NotFound("mount directory " + path + ": does not exist; make it first");
    return ErrnoStatus(errno, "open mount directory", path);
  }
  const std::vector<MountEntry> table = MountTable();
  if (FindMount(table, path) != nullptr)
    return FailedPrecondition("mount directory " + path + ": something is mounted there already");
  while (const dirent* entry = readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..")
      return FailedPrecondition("mount directory " + path + ": is not empty");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DetectFileSystem(const std::string& device) {
  // Probes the device itself; blkid's cache could speak of a device that had this number before.
  constexpr int kNothingFound = 2;
  constexpr int kSeveralThings = 8;
  COWL_ASSIGN_OR_RETURN(const ProgramResult blkid,
                        RunProgram({"blkid", "-p", "-o", "export", device}));
  if (blkid.status == kSeveralThings) {
    return FailedPrecondition(device +
                              " carries the marks of several file systems; attach it without "
                              "--mount and wipe the wrong ones (wipefs)");
  }
  const std::string type = ValueOf(blkid.output, "TYPE");
  if (blkid.status == 0 && !type.empty()) return type;
  if (!ValueOf(blkid.output, "PTTYPE").empty()) {
    return FailedPrecondition(
        device + " holds a partition table; attach it without --mount and mount a partition");
  }
  if (blkid.status == 0 || blkid.status == kNothingFound) {
    return FailedPrecondition(
        device + " holds no file system; attach it without --mount and make one (mkfs.ext4)");
  }
  return Internal("blkid " + device + ": " + blkid.output);
}

std::string MountOptionsFor(const std::string& file_system, bool read_only) {
  struct Known {
    const char* name;
    const char* writable;
    const char* read_only;
  };
  // noload, norecovery, nologreplay: what a snapshot of a mounted file system holds, without
  // replaying what cannot be written.
  static constexpr Known kKnown[] = {
      {"ext4", "discard", "noload"},
      {"ext3", "discard", "noload"},
      {"xfs", "discard,nouuid", "norecovery,nouuid"},
      {"btrfs", "discard=async", "rescue=nologreplay"},
      {"f2fs", "discard", "norecovery"},
      {"vfat", "discard", ""},
  };
  for (const Known& known : kKnown) {
    if (file_system == known.name) return read_only ? known.read_only : known.writable;
  }
  return "";
}

absl::Status MountDevice(const std::string& device, const std::string& directory,
                         const std::string& file_system, bool read_only) {
  const int error =
      TryMount(device, directory, file_system, read_only, MountOptionsFor(file_system, read_only));
  return error == 0 ? absl::OkStatus() : MountError(error, device, directory, file_system);
}

std::vector<std::string> UsersOfMount(const std::string& directory) {
  struct stat root;
  if (stat(directory.c_str(), &root) != 0) return {};
  std::vector<std::string> users = ScanProcesses(
      [&](const std::string& process) { return HowItUsesMount(process, root.st_dev); });
  for (const MountEntry& entry : MountTable()) {
    if (entry.mount_point.starts_with(directory + "/"))
      users.push_back("a mount at " + entry.mount_point);
  }
  return users;
}

std::vector<std::string> UsersOfDevice(const std::string& device, const std::string& except_mount) {
  struct stat node;
  if (stat(device.c_str(), &node) != 0 || !S_ISBLK(node.st_mode)) return {};
  std::vector<std::string> users = ScanProcesses([&](const std::string& process) -> std::string {
    return AnyOpenFile(process,
                       [&](const std::string& file) { return IsDevice(file, node.st_rdev); })
               ? "has it open"
               : "";
  });
  for (const MountEntry& entry : MountTable()) {
    if (entry.source == device && entry.mount_point != except_mount)
      users.push_back("a mount at " + entry.mount_point);
  }
  return users;
}

}  // namespace cowl
