// attached.h: what is attached from a store, for the verbs that show it and those that must not
// pull it from under somebody.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attach/attach.h"

namespace cowl {

using AttachedMap = std::map<std::string, Attachment>;

absl::StatusOr<AttachedMap> ListAttached(const std::string& store);

// Refuses when `name` is attached, naming the path and what `verb` would do; with `force` detaches
// it first.
absl::Status LetGo(const std::string& store, const std::string& name, bool force);

// Detaches; a server that was started for what is attached ends when that was the last of it.
absl::Status DetachAndLetGo(const std::string& store, const std::string& name, bool force);

// "at /dev/nbd0, mounted on /mnt"
std::string WhereAttached(const Attachment& attachment);

}  // namespace cowl
