#include "base/size_text.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

absl::Status BadSize(std::string_view text) {
  return InvalidArgument(absl::StrCat(
      "size \"", Absl(text.substr(0, 40)),
      "\" is not digits with at most one of K M G T after them, a multiple of 512 from "
      "512 to 64T"));
}

int ShiftOf(char unit) {
  switch (unit) {
    case 'k':
    case 'K':
      return 10;
    case 'm':
    case 'M':
      return 20;
    case 'g':
    case 'G':
      return 30;
    case 't':
    case 'T':
      return 40;
    default:
      return -1;
  }
}

}  // namespace

absl::StatusOr<uint64_t> ParseSizeBytes(std::string_view text) {
  std::string_view digits = text;
  int shift = 0;
  if (!digits.empty() && ShiftOf(digits.back()) > 0) {
    shift = ShiftOf(digits.back());
    digits.remove_suffix(1);
  }
  if (digits.empty()) return BadSize(text);
  uint64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return BadSize(text);
    value = value * 10 + static_cast<uint64_t>(c - '0');
    if (value > kDeviceBytesMax) return BadSize(text);
  }
  if (value > kDeviceBytesMax >> shift) return BadSize(text);
  const uint64_t bytes = value << shift;
  if (bytes < kDeviceBytesMin || bytes % kSectorBytes != 0) return BadSize(text);
  return bytes;
}

std::string FormatBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < kKiB) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f %s", value, kUnits[unit]);
  return text;
}

}  // namespace cowl
