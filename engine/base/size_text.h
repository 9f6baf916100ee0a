// size_text.h: sizes as people and scripts write them (docs: "Sizes" in README.md), and as reports
// show them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace cowl {

// Digits and at most one of K M G T, either case, powers of 1024. A multiple of 512 from 512 to
// 64T; else InvalidArgument that names the text and what is allowed.
absl::StatusOr<uint64_t> ParseSizeBytes(std::string_view text);

// "0 B", "512 B", "4.0 KiB", "1.5 MiB": three digits or so, for tables.
std::string FormatBytes(uint64_t bytes);

}  // namespace cowl
