// cowl export: a frozen state of an image or device, written out as a disk image.
// Units: bytes. Threads: blocks the caller's; starts one of its own for I/O. A file appears under
// its name only when it is complete and durable; otherwise nothing is left. Errors: one message
// that says what, where and what to do.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "cowl/store.h"

namespace cowl {

enum class ExportFormat { kRaw, kQcow2 };

struct ExportOptions {
  FrozenView view;
  std::string path;  // "-": every byte to `stdout_fd`, raw only
  int stdout_fd = 1;
  ExportFormat format = ExportFormat::kRaw;
  bool force = false;  // replace a regular file that is there
  Progress progress;
};

absl::Status Export(const ExportOptions& options);

}  // namespace cowl
