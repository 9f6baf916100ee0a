// checksum.h: XXH3, 64 bits, of blocks and of everything else the store writes.
// Threads: pure functions. Cost: about 80 ns for a block that is in the CPU's cache, 500 ns from
// memory.
#pragma once

#include <cstdint>
#include <span>

namespace cowl {

uint64_t Xxh3(std::span<const std::byte> bytes);
uint64_t Xxh3(std::span<const std::byte> bytes, uint64_t seed);

}  // namespace cowl
