// run_program.h: runs a program of the system to its end and takes down what it says.
// Threads: any. Errors: NotFound when there is no such program; its own failure is in the result.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace cowl {

struct ProgramResult {
  int status = 0;      // the exit status, 128 + the signal
  std::string output;  // stdout and stderr in one, 64 KiB at most
};

// `arguments[0]` is looked up in PATH and in the system folders.
absl::StatusOr<ProgramResult> RunProgram(const std::vector<std::string>& arguments);

// The program's path, or empty.
std::string FindProgram(const std::string& name);

}  // namespace cowl
