// cowl import: makes a layer file, outside the store's lock, from a disk image, a block device or a
// directory. The caller registers the file with Store::Register. Units: bytes. Threads: blocks the
// caller's; starts one of its own for I/O. Errors: one message that says what, where and what to
// do; then the staged file is gone. Cancelled: `progress` said stop. Durability: after OK the
// staged file survives a crash.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "cowl/store.h"
#include "image/importer.h"

namespace cowl {

struct ImportOptions {
  ImportSourceOptions source;
  std::string staged_path;  // absolute; must be new
  FrozenView parent;  // no layers: the image stands on its own. Else only what differs is stored
  std::string created_by;
  Progress progress;
};

struct ImportResult {
  std::string staged_path;
  std::string layer_id;
  std::string parent_id;  // empty: none
  uint64_t size_bytes = 0;
  uint64_t stored_bytes = 0;
};

absl::StatusOr<ImportResult> Import(const ImportOptions& options);

}  // namespace cowl
