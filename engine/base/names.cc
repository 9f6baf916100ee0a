#include "cowl/names.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr size_t kNameCharsMax = 128;
constexpr size_t kQuotedCharsMax = 60;

bool IsLower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsAlnum(char c) { return IsLower(c) || (c >= 'A' && c <= 'Z'); }
bool IsMark(char c) { return c == '.' || c == '_' || c == '-'; }

bool IsName(std::string_view text) {
  if (text.empty() || text.size() > kNameCharsMax || !IsLower(text[0])) return false;
  for (const char c : text.substr(1)) {
    if (!IsLower(c) && !IsMark(c)) return false;
  }
  return true;
}

bool IsTag(std::string_view text) {
  if (text.empty() || text.size() > kNameCharsMax || !(IsAlnum(text[0]) || text[0] == '_'))
    return false;
  for (const char c : text.substr(1)) {
    if (!IsAlnum(c) && !IsMark(c)) return false;
  }
  return true;
}

}  // namespace

std::string Quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text.substr(0, kQuotedCharsMax)) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char hex[8];
      std::snprintf(hex, sizeof(hex), "\\x%02x", static_cast<unsigned char>(c));
      quoted += hex;
    } else {
      quoted += c;
    }
  }
  quoted += text.size() > kQuotedCharsMax ? "\"..." : "\"";
  return quoted;
}

absl::StatusOr<ImageName> ParseImageName(std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  const std::string_view tag = colon == std::string_view::npos ? "latest" : text.substr(colon + 1);
  if (!IsName(name)) {
    return InvalidArgument(absl::StrCat("image name ", Quoted(text),
                                        " is not 1 to 128 of a-z 0-9 . _ - that start with a "
                                        "letter or digit, then :TAG or nothing"));
  }
  if (!IsTag(tag)) {
    return InvalidArgument(
        absl::StrCat("tag of ", Quoted(text),
                     " is not 1 to 128 of A-Z a-z 0-9 . _ - that start with none of . -"));
  }
  return ImageName{std::string(name), std::string(tag)};
}

absl::Status ValidateDeviceName(std::string_view text) {
  if (IsName(text)) return absl::OkStatus();
  return InvalidArgument(
      absl::StrCat("device name ", Quoted(text),
                   " is not 1 to 128 of a-z 0-9 . _ - that start with a letter or digit"));
}

}  // namespace cowl
