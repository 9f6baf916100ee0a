#include "stack/seeds.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cowl {
namespace {

uint64_t ChooseSeed() {
  const char* const given = std::getenv("COWL_SEED");
  const uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device()() % 1'000'000'000;
  std::printf("[   SEED   ] COWL_SEED=%llu repeats this run\n",
              static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return seed;
}

}  // namespace

uint64_t TestSeed() {
  static const uint64_t seed = ChooseSeed();
  return seed;
}

std::mt19937_64 TestRandom(uint64_t number) {
  return std::mt19937_64(TestSeed() * 0x9e3779b97f4a7c15u + number);
}

uint64_t TestSteps(uint64_t steps) {
  const char* const percent = std::getenv("COWL_STEPS");
  return percent == nullptr ? steps : steps * std::strtoull(percent, nullptr, 0) / 100;
}

std::vector<std::byte> RandomBytes(std::mt19937_64& random, size_t length) {
  std::vector<std::byte> bytes(length);
  const uint64_t kind = random() % 16;
  if (kind == 0) return bytes;
  if (kind == 1) {
    std::memset(bytes.data(), static_cast<int>(random()), length);
    return bytes;
  }
  uint64_t word = random();
  for (size_t at = 0; at < length; at += 8) {
    word = word * 0xd1342543de82ef95u + 1;
    const uint64_t mixed = word ^ word >> 29;
    std::memcpy(bytes.data() + at, &mixed, std::min<size_t>(8, length - at));
  }
  return bytes;
}

}  // namespace cowl
