// bytes.h: fixed-width integers in byte order of the disk (little endian) and of the NBD wire (big
// endian). Ownership: none; callers pass memory that is large enough. Errors: none.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace cowl {

static_assert(std::endian::native == std::endian::little, "cowl runs on little-endian machines");

template <typename T>
T LoadLittle(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <typename T>
void StoreLittle(void* to, T value) {
  std::memcpy(to, &value, sizeof(value));
}

constexpr uint16_t SwapBytes(uint16_t v) { return __builtin_bswap16(v); }
constexpr uint32_t SwapBytes(uint32_t v) { return __builtin_bswap32(v); }
constexpr uint64_t SwapBytes(uint64_t v) { return __builtin_bswap64(v); }

template <typename T>
T LoadBig(const void* from) {
  return SwapBytes(LoadLittle<T>(from));
}

template <typename T>
void StoreBig(void* to, T value) {
  StoreLittle<T>(to, SwapBytes(value));
}

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

inline std::string_view AsText(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// True when every byte is zero. Reads each byte at most once.
inline bool IsZero(std::span<const std::byte> bytes) {
  if (bytes.empty()) return true;
  // A range whose first byte is zero and that equals itself shifted by one is zero throughout.
  return bytes[0] == std::byte{0} &&
         std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

}  // namespace cowl
