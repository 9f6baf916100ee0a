// qcow2.h: disks in qcow2 files, read and written by qemu's own programs: no qcow2 code of ours but
// a look at the header. Reading trusts nothing in the file: what names another file (backing file,
// external data file) is refused by the header, and qemu-nbd parses the rest as nobody, without a
// network, over a connection to a second qemu-nbd that serves the file's bytes. Needs the package
// qemu-utils. Threads: one; start on a thread that outlives the result. Errors: name the file.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "cowl/store.h"
#include "image/block_source.h"

namespace cowl {

// Refuses what is no qcow2 header, or of an image that needs more than this one file, or is
// encrypted.
absl::Status CheckQcow2Header(std::span<const std::byte> header, const std::string& name);
inline constexpr size_t kQcow2HeaderBytes = 80;

absl::StatusOr<std::unique_ptr<BlockSource>> OpenQcow2(UniqueFd fd, const std::string& name,
                                                       const Progress& progress);

// Makes the empty regular file `fd` a qcow2 image of the source. `name` is for messages.
absl::Status WriteQcow2File(BlockSource& source, int fd, const std::string& name,
                            const Progress& progress);

}  // namespace cowl
