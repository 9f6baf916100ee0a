// directory_importer.h: a directory tree as an ext4 on a disk.
// The same tree and size give the same bytes, wherever and by whomever it is imported. Blocks of
// zeros in files become holes. What changes while it is read: a file that is cut short, replaced or
// gone is an error; what a file grows by is left out.
#pragma once

#include <memory>

#include "base/unique_fd.h"
#include "image/importer.h"

namespace cowl {

// Lists the tree. `fd` is the directory.
absl::StatusOr<std::unique_ptr<Importer>> OpenDirectoryImporter(const ImportSourceOptions& options,
                                                                UniqueFd fd,
                                                                const Progress& progress);

}  // namespace cowl
