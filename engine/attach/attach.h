// attach.h: makes an export of a running server a block device of this host's kernel, and takes it
// away again.
//
// Two ways: the kernel's nbd driver, by netlink (/dev/nbdN), or, where the kernel has none, a FUSE
// file that a small process of ours serves from the same socket, under a loop device (/dev/loopN).
// Runs in the client's process, as root; the server takes no part but to serve. Units: bytes,
// seconds where the name says so. Ownership: what is attached belongs to no process: it is written
// down in STORE/attach/NAME.json and stays until Detach, a reboot, or CleanStale. Only what stands
// there, and what the kernel confirms to be the very same, is ever touched. Threads: calls may come
// from any thread and process; those for one name exclude each other (a lock file). Errors:
// absl::Status with what, where, what to do. AlreadyExists: attached already. FailedPrecondition:
// busy (the message names the users), or the host cannot. NotFound: not attached. PermissionDenied:
// not root. A failed Attach leaves nothing behind. Durability: the records need to outlive
// processes only, not the machine; nothing here syncs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

struct AttachRequest {
  std::string store_dir;  // absolute
  std::string
      name;  // what the user called it: a device's NAME, an image's NAME:TAG; names the record
  std::string socket_path;  // absolute path of the unix socket the server listens on
  std::string export_name;  // empty: the same as `name`
  // Begins the identifier that the kernel keeps beside the device ("cowl:" + this + random bits).
  // Empty: the store's directory and the name.
  std::string backend_id;
  bool read_only = false;  // an export that is read-only is attached read-only in any case
  std::string mount_dir;   // empty: no mount; else an empty directory, absolute
  uint64_t size_bytes =
      0;  // 0: whatever the server says; else a server that says otherwise is refused
  // How long requests wait for a server that went away to come back before they fail. Raising it
  // makes programs hang longer on a server that is gone for good; lowering it makes a slow restart
  // cost I/O errors.
  uint32_t dead_server_timeout_s = 300;
  int connections =
      0;  // 0: chosen here. Never more than 1 where the server does not say that more are coherent
  bool force_loop = false;  // take the FUSE and loop way even where the kernel has nbd
};

enum class AttachKind { kNbd, kLoop };

struct Attachment {
  std::string name;
  std::string export_name;
  std::string socket_path;
  AttachKind kind = AttachKind::kNbd;
  std::string device;       // "/dev/nbd0", "/dev/loop3"
  std::string mount;        // empty: cowl mounted nothing
  std::string file_system;  // what is mounted: "ext4"; empty: no mount
  bool read_only = false;
  uint64_t size_bytes = 0;
  std::string backend_id;  // complete
  std::string identity;    // what the server said of the export at first: a device that comes back
                           // must say the same
  // The FUSE way only.
  std::string fuse_file;
  int64_t fuse_pid = 0;
  uint64_t fuse_pid_started = 0;  // the process's start time in clock ticks: pids are used again
  // The nbd way only.
  uint32_t nbd_index = 0;
  int connections = 1;
  uint32_t dead_server_timeout_s = 0;
};

// Attaches, mounts when asked, and returns once the device can be used.
absl::StatusOr<Attachment> Attach(const AttachRequest& request);

// PermissionDenied unless this process may make block devices of the kernel.
absl::Status CheckRoot();

// Unmounts what Attach mounted and disconnects. Busy (open files, mounts elsewhere):
// FailedPrecondition that names the users; with `force` the mount is taken out of the tree and the
// device cut off all the same, and its users get I/O errors. Kills nobody. As CheckServed without
// `force`, at once: what is not written yet needs the server.
absl::Status Detach(const std::string& store_dir, const std::string& name, bool force);

// What is attached from this store now, by name. Records that the kernel does not confirm are left
// out.
absl::StatusOr<std::vector<Attachment>> Attachments(const std::string& store_dir);

// One of them; NotFound when it is not attached.
absl::StatusOr<Attachment> FindAttachment(const std::string& store_dir, const std::string& name);

// Whether a server is there for what is attached. Unavailable: none, and requests wait for one;
// FailedPrecondition: one that has another disk by that name; Aborted: whoever asked the server for
// it is gone, and requests fail.
absl::Status CheckServed(const Attachment& attachment);

// Call after a device was resized in the store: the kernel takes over the size. `size_bytes` is the
// new one.
absl::Status TellResized(const std::string& store_dir, const std::string& name,
                         uint64_t size_bytes);

// Gives every device attached by nbd new connections to the server that now listens, in the place
// of dead ones. A server has keeper.h do it. (The FUSE way reconnects by itself.) A device whose
// export is now another thing is left cut off and reported.
absl::Status Reattach(const std::string& store_dir);

// Undoes attachments that a crash left half made, and drops records of what is gone. Returns a line
// for each thing done.
absl::StatusOr<std::vector<std::string>> CleanStale(const std::string& store_dir);
// The same, looking only: one line for each thing CleanStale would do.
absl::StatusOr<std::vector<std::string>> FindStale(const std::string& store_dir);

struct DoctorCheck {
  std::string name;  // "nbd", "fuse", "loop", "mount"
  bool ok = false;
  std::string message;  // what was found; when not ok also what to do
};

// What this host can do: nbd by netlink, fuse, loop, and whether attach would work at all.
std::vector<DoctorCheck> CheckHost();

// The process that serves the FUSE file is this same program, started anew: main() must begin with
//   if (argc > 1 && std::string_view(argv[1]) == kFuseServeVerb) return FuseServeMain(argc, argv);
// before it touches anything else.
inline constexpr char kFuseServeVerb[] = "__fuse-serve";
int FuseServeMain(int argc, char** argv);

}  // namespace cowl
