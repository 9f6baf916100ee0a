// text_file.h: small text files: records, /proc and /sys.
// Errors: absl::Status with the path; NotFound when there is no such file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

// The whole of a file, 4 MiB at most.
absl::StatusOr<std::string> ReadTextFile(const std::string& path);

// The first line without its end; empty when the file cannot be read.
std::string ReadLine(const std::string& path);

// Writes beside `path` and renames over it: readers see the old text or the new.
absl::Status ReplaceTextFile(const std::string& path, std::string_view text);

// Writes into a file that is there, such as one of /proc.
absl::Status ReplaceTextInPlace(const std::string& path, std::string_view text);

// The parts between separators, empty ones left out.
std::vector<std::string_view> SplitWords(std::string_view text, char separator);

// Digits only.
bool ParseNumber(std::string_view text, uint64_t* value);

}  // namespace cowl
