// fuse_loop.h: an export as a FUSE file under a loop device, for kernels without nbd, and proof
// that a loop device is still ours. Threads and processes: the caller holds the record's lock.
// Errors: as attach.h.
#pragma once

#include "absl/status/status.h"
#include "attach/attach.h"

namespace cowl {

// OK when /dev/fuse and /dev/loop-control can be used. Else Unavailable says what to do.
absl::Status PrepareLoop();

// Where the file of an attachment goes: known before anything is made, so that a crash leaves
// nothing that cannot be found.
std::string FuseFilePath(const Attachment& attachment);

// Fills in fuse_pid, device and size. `attachment` comes with everything else. Leaves nothing when
// it fails.
absl::Status ConnectLoop(Attachment* attachment);

// The loop device stands on the attachment's file. False also when there is no device yet.
bool IsOurLoop(const Attachment& attachment);

// Aborted when the process is gone that brings the device's requests to the server.
absl::Status CheckFuse(const Attachment& attachment);

// The loop device that does, for a record that a crash left without one; NotFound.
absl::StatusOr<std::string> FindLoop(const std::string& fuse_file);

// The file, and then the device, take over the size that the server now says, which must be
// `size_bytes`.
absl::Status ResizeLoop(const Attachment& attachment, uint64_t size_bytes);

// Takes away device, file and process, whatever there is of them. `force`: also while the server is
// gone and requests hang; they fail then.
absl::Status DisconnectLoop(const Attachment& attachment, bool force);

}  // namespace cowl
