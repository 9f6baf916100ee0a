// uuid.h: 128 random bits that name a layer, an overlay or a store (RFC 4122, version 4).
// Threads: value type. Errors: Parse returns nullopt for anything but 8-4-4-4-12 lower-case hex
// digits.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace cowl {

struct Uuid {
  std::array<uint8_t, 16> bytes{};

  static Uuid Random();  // from the kernel's random source; never fails
  static std::optional<Uuid> Parse(std::string_view text);
  std::string ToString() const;
  bool IsNil() const { return *this == Uuid{}; }
  auto operator<=>(const Uuid&) const = default;
};

// A random 64-bit number from the kernel's random source.
uint64_t RandomSecret();

}  // namespace cowl

template <>
struct std::hash<cowl::Uuid> {
  size_t operator()(const cowl::Uuid& id) const noexcept {
    size_t value;
    static_assert(sizeof(value) <= sizeof(id.bytes));
    __builtin_memcpy(&value, id.bytes.data(), sizeof(value));
    return value;
  }
};
