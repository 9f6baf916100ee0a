// call.h: what most verbs do: run a command where the store is open, and print its result.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "control/execute.h"
#include "control/json.h"
#include "tools/cowl/invocation.h"
#include "tools/cowl/output.h"

namespace cowl {

absl::StatusOr<Json> Call(const Invocation& invocation, const std::string& verb, const Json& args,
                          const Progress& progress = {});

// --json: the document; else `text`.
void PrintResult(Output& output, const Json& document, const std::string& text);

// The store that the command line and the environment name: absolute, links resolved where it
// exists.
absl::StatusOr<std::string> FindStoreDirectory(const Invocation& invocation);

// NAME:TAG of an image name that the command line has shown to be one.
std::string WholeImageName(const std::string& text);

// A list's `key` member, empty when it is not there.
const Json& ListOf(const Json& document, const char* key);

}  // namespace cowl
