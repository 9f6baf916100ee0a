// sync_file.h: files over plain system calls. Where each operation runs: system_file.h; "aside" is
// a helper thread here.
#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "io/file.h"
#include "io/loop.h"

namespace cowl {

std::unique_ptr<File> MakeSyncFile(Loop& loop, std::string path, UniqueFd fd);

}  // namespace cowl
