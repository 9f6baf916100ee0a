// seeds.h: where random tests get their randomness from: COWL_SEED in the environment, else a new
// seed each run, printed. COWL_STEPS scales how long they run, in percent.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace cowl {

// The seed of this run of the program, printed at the first call with the command line that repeats
// it.
uint64_t TestSeed();
// A generator for one test: the seed of the run and the test's own number.
std::mt19937_64 TestRandom(uint64_t number);
// `steps` scaled by COWL_STEPS.
uint64_t TestSteps(uint64_t steps);

// Content that can be told from all other: random words; now and then constant or zero.
std::vector<std::byte> RandomBytes(std::mt19937_64& random, size_t length);

}  // namespace cowl
