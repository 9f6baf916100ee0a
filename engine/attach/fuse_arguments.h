// fuse_arguments.h: how the starting process and the FUSE process talk: the command line there, one
// line back.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "attach/fuse_serve.h"

namespace cowl {

// The descriptor on which the new process says how its start went.
inline constexpr int kTellParentFd = 3;

// Pure: options as a command line (without the program's name, with the verb) and back.
std::vector<std::string> EncodeFuseArguments(const FuseOptions& options);
absl::StatusOr<FuseOptions> DecodeFuseArguments(int argc, const char* const* argv);

// In the new process, once: `failure` empty means it serves now. Closes the descriptor.
void TellParent(std::string_view failure);

}  // namespace cowl
