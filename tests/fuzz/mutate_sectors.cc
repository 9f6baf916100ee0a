// How data files are mutated: mostly in place and where something stands. They are mostly zeros,
// and a byte put in at the front moves every block away from where it is looked for.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>

#include "base/bytes.h"
#include "base/units.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

namespace cowl {
namespace {

constexpr size_t kWordBytes = 8;
constexpr size_t kWordsMax = 8;  // that one mutation changes
constexpr int kAttempts = 64;

// Some words of a sector that is not all zero, and of those most often some that are not either.
std::span<uint8_t> PickWords(std::span<uint8_t> file, std::minstd_rand& random) {
  std::span<uint8_t> words;
  for (int i = 0; i < kAttempts; ++i) {
    const size_t sector = random() % (file.size() / kSectorBytes) * kSectorBytes;
    if (i % 8 != 7 && IsZero(std::as_bytes(file.subspan(sector, kSectorBytes)))) continue;
    const size_t count = 1 + random() % kWordsMax;
    const size_t first = random() % (kSectorBytes / kWordBytes - count + 1);
    words = file.subspan(sector + first * kWordBytes, count * kWordBytes);
    if (!IsZero(std::as_bytes(words))) break;
  }
  return words;
}

void MutateWords(std::span<uint8_t> file, std::minstd_rand& random) {
  const std::span<uint8_t> words = PickWords(file, random);
  if (words.empty()) return;
  switch (random() % 8) {
    case 0: {  // what stands elsewhere
      const std::span<uint8_t> from = PickWords(file, random);
      std::memmove(words.data(), from.data(), std::min(words.size(), from.size()));
      return;
    }
    case 1:  // the number of a block of this file, or nearly
      StoreLittle<uint64_t>(words.data(), random() % (BlocksFloor(file.size()) + 2));
      return;
    default:
      LLVMFuzzerMutate(words.data(), words.size(), words.size());
  }
}

}  // namespace
}  // namespace cowl

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t size_max,
                                          unsigned int seed) {
  std::minstd_rand random(seed);
  if (size < cowl::kSectorBytes || random() % 32 == 0)
    return LLVMFuzzerMutate(data, size, size_max);
  for (uint64_t i = random() % 4 + 1; i > 0; --i) cowl::MutateWords({data, size}, random);
  return size;
}
