// parse.h: from the words of a command line to an Invocation, or to why not.
// Errors: a usage error is told apart from all others (exit status 2); it is one line.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/cowl/invocation.h"

namespace cowl {

// A usage error: what the command line alone shows to be wrong.
struct Parsed {
  Invocation invocation;  // verb null: none was given, or none that exists
  absl::Status usage;     // not OK: wrong usage
  bool help = false;      // --help was given: usage may be anything
  bool version = false;
};

// `words` without the program's name.
Parsed ParseCommandLine(const std::vector<std::string>& words);

// Every value of the right kind, nothing missing, nothing that does not go together.
absl::Status CheckInvocation(const Invocation& invocation);

}  // namespace cowl
