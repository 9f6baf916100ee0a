// dump.h: any file of a store as text, damaged ones too: what stands in it, and what is wrong with
// it. Threads: any; blocks. Errors: only what keeps the file from being read at all; damage is part
// of the text. Writes nothing.
#pragma once

#include <ostream>
#include <string>

#include "absl/status/status.h"

namespace cowl {

absl::Status DumpFile(const std::string& path, std::ostream& out);

}  // namespace cowl
