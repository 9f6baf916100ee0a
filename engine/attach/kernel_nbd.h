// kernel_nbd.h: an export as /dev/nbdN, and proof that a /dev/nbdN is still ours.
// Threads and processes: the caller holds the record's lock. Errors: as attach.h.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attach/attach.h"

namespace cowl {

// OK when the kernel's nbd can be used; loads the module when it is not there yet. Else Unavailable
// says why not.
absl::Status PrepareNbd();

// Fills in nbd_index, device and size. `attachment` comes with everything else.
absl::Status ConnectNbd(Attachment* attachment);

// The device carries the attachment's identifier.
bool IsOurNbd(const Attachment& attachment);

// The device that carries it, for a record that a crash left without an index; NotFound.
absl::StatusOr<uint32_t> FindNbd(const std::string& backend_id);

// New connections in the place of dead ones, and the size unless 0.
absl::Status ReconnectNbd(const Attachment& attachment, uint64_t size_bytes);

// Waits until the kernel has let go. The caller has made sure that nobody uses the device, or is
// told not to care.
absl::Status DisconnectNbd(const Attachment& attachment);

}  // namespace cowl
