// directory_storage.h: a Storage over a real directory, whatever loop its files complete on.
// Ownership: holds the directory open, so that a store that is moved while in use stays whole.
// Threads, errors, durability: as Storage. A directory that cannot be opened shows at the first
// call. Names: relative, below the directory; an absolute one or one with a ".." in it is
// InvalidArgument. Only regular files are opened.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "io/file.h"

namespace cowl {

using FileMaker = std::function<std::unique_ptr<File>(std::string path, UniqueFd fd)>;

std::unique_ptr<Storage> MakeDirectoryStorage(const std::string& directory, FileMaker make_file);

}  // namespace cowl
