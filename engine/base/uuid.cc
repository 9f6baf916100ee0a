#include "base/uuid.h"

#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

namespace cowl {
namespace {

void FillRandom(void* to, size_t bytes) {
  ssize_t got;
  do {
    got = getrandom(to, bytes, 0);
  } while (got < 0 && errno == EINTR);
  // At most 256 bytes are asked for, which the kernel gives whole or not at all (getrandom(2)).
  if (got != static_cast<ssize_t>(bytes)) std::abort();
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool DashBefore(size_t byte) { return byte == 4 || byte == 6 || byte == 8 || byte == 10; }

}  // namespace

Uuid Uuid::Random() {
  Uuid id;
  FillRandom(id.bytes.data(), id.bytes.size());
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

std::optional<Uuid> Uuid::Parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid id;
  size_t at = 0;
  for (size_t i = 0; i < id.bytes.size(); ++i) {
    if (DashBefore(i) && text[at++] != '-') return std::nullopt;
    const int high = HexValue(text[at++]);
    const int low = HexValue(text[at++]);
    if (high < 0 || low < 0) return std::nullopt;
    id.bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return id;
}

std::string Uuid::ToString() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (DashBefore(i)) text += '-';
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

uint64_t RandomSecret() {
  uint64_t secret;
  FillRandom(&secret, sizeof(secret));
  return secret;
}

}  // namespace cowl
