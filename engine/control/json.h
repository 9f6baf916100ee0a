// json.h: JSON documents as commands pass them, and readers that never throw.
// Documents keep the order of their fields. Text that is not UTF-8 is replaced when a document is
// written, never an exception. Errors: a field that is missing or of another type is an
// InvalidArgument that names it: arguments come over a socket.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace cowl {

using Json = nlohmann::ordered_json;

std::string JsonText(const Json& value);                // one line
std::string JsonDocument(const Json& value);            // indented, with a newline at the end
absl::StatusOr<Json> ParseJson(std::string_view text);  // InvalidArgument says where it breaks off

absl::StatusOr<std::string> GetText(const Json& object, const char* key);
absl::StatusOr<uint64_t> GetNumber(const Json& object, const char* key);
// Forms for fields that may be absent (or null); of another type they count as absent.
std::string TextOr(const Json& object, const char* key, std::string_view otherwise);
uint64_t NumberOr(const Json& object, const char* key, uint64_t otherwise);
bool FlagOr(const Json& object, const char* key, bool otherwise);

}  // namespace cowl
