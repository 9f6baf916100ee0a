#include "base/checksum.h"

#include <xxhash.h>
#ifdef COWL_XXHASH_DISPATCHES
#include <xxh_x86dispatch.h>  // the calls below choose what the CPU has
#endif

namespace cowl {

uint64_t Xxh3(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

uint64_t Xxh3(std::span<const std::byte> bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace cowl
