// execute.h: runs a command where the store is open: in the server that has it, else in this
// process, which opens it. Threads: one call at a time for each target. Blocking. Errors: those of
// the command; Unavailable when another process that is no server holds the store (the message
// names it).
#pragma once

#include <functional>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "control/json.h"
#include "cowl/store.h"

namespace cowl {

struct ExecuteTarget {
  std::string directory;              // of the store; absolute
  std::function<bool()> interrupted;  // true after Ctrl-C; may be empty
};

absl::StatusOr<Json> Execute(const ExecuteTarget& target, const std::string& verb, const Json& args,
                             std::span<const int> fds = {}, const Progress& progress = {});

}  // namespace cowl
