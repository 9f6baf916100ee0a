// raw_output.h: a disk as a raw image: sparse in a file, every byte in a stream.
// Threads: one; calls block. Errors: errno of the output, named `name`; those of the source;
// Cancelled.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "cowl/store.h"
#include "image/block_source.h"

namespace cowl {

// Makes the empty regular file `fd` the disk: as long as it, with holes where it is zero.
absl::Status WriteRawFile(BlockSource& source, int fd, const std::string& name,
                          const Progress& progress);

// Writes the disk's bytes, zeros included, from front to back. Raises no SIGPIPE: a reader that
// left is an error.
absl::Status WriteRawStream(BlockSource& source, int fd, const std::string& name,
                            const Progress& progress);

}  // namespace cowl
