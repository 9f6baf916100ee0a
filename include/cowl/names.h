// cowl/names.h: the names of images and devices.
// Grammar: name [a-z0-9][a-z0-9._-]{0,127}; tag [A-Za-z0-9_][A-Za-z0-9._-]{0,127}, "latest" when
// none is given. Errors: InvalidArgument that shows the name, shortened and with control characters
// made visible.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

struct ImageName {
  std::string name;
  std::string tag;
  std::string ToString() const { return name + ":" + tag; }
};

absl::StatusOr<ImageName> ParseImageName(std::string_view text);
absl::Status ValidateDeviceName(std::string_view text);

// `text` in quotes, at most 60 characters of it, control characters as \xNN: for error messages.
std::string Quoted(std::string_view text);

}  // namespace cowl
