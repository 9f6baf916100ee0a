// Lookups in a merged map: independent random keys, and keys that depend on the answer before.
#include <benchmark/benchmark.h>

#include <array>
#include <random>
#include <span>
#include <vector>

#include "layer/extent_array.h"

namespace cowl {
namespace {

constexpr uint64_t kSpacing = 4;  // blocks from one extent to the next

ExtentArray MakeMap(uint64_t count) {
  ExtentArrayBuilder builder;
  builder.Reserve(count);
  for (uint64_t i = 0; i < count; ++i)
    builder.Add({i * kSpacing, 2, Segment::Kind::kData, 0, i * 3 + 2});
  return builder.Build();
}

void BM_LookupIndependent(benchmark::State& state) {
  const ExtentArray map = MakeMap(state.range(0));
  std::mt19937_64 random(1);
  std::vector<uint64_t> keys(4096);
  for (uint64_t& key : keys) key = random() % (state.range(0) * kSpacing);
  size_t next = 0;
  uint64_t found = 0;
  for (auto _ : state) {
    const uint64_t key = keys[next++ % keys.size()];
    map.VisitRange(key, key + 1, [&](const Segment& segment) { found += segment.physical; });
  }
  benchmark::DoNotOptimize(found);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_LookupIndependent)->Arg(1000)->Arg(100'000)->Arg(1'000'000)->Arg(10'000'000);

// Sixteen keys at a time, as a client's requests come in.
void BM_LookupInBatches(benchmark::State& state) {
  const ExtentArray map = MakeMap(state.range(0));
  std::mt19937_64 random(1);
  std::vector<uint64_t> keys(1 << 16);
  for (uint64_t& key : keys) key = random() % (state.range(0) * kSpacing);
  std::array<size_t, 16> found;
  size_t next = 0;
  for (auto _ : state) {
    map.FindEach(std::span(keys).subspan(next, found.size()), found);
    benchmark::DoNotOptimize(found);
    next = (next + found.size()) % keys.size();
  }
  state.SetItemsProcessed(state.iterations() * found.size());
}
BENCHMARK(BM_LookupInBatches)->Arg(1000)->Arg(100'000)->Arg(1'000'000)->Arg(10'000'000);

void BM_LookupDependent(benchmark::State& state) {
  const ExtentArray map = MakeMap(state.range(0));
  const uint64_t limit = state.range(0) * kSpacing;
  uint64_t random = 1;
  for (auto _ : state) {
    uint64_t physical = 0;
    const uint64_t key = (random >> 16) % limit;
    map.VisitRange(key, key + 1, [&](const Segment& segment) { physical = segment.physical; });
    random = random * 6364136223846793005ull + physical + 1442695040888963407ull;
  }
  benchmark::DoNotOptimize(random);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_LookupDependent)->Arg(1000)->Arg(100'000)->Arg(1'000'000)->Arg(10'000'000);

void BM_Merge(benchmark::State& state) {
  const ExtentArray upper = MakeMap(state.range(0) / 8);
  const ExtentArray lower = MakeMap(state.range(0));
  static constexpr uint32_t kFirst[] = {0};
  static constexpr uint32_t kSecond[] = {1};
  for (auto _ : state) {
    const ExtentArray merged = MergeExtents(upper.extents(), kFirst, lower.extents(), kSecond);
    benchmark::DoNotOptimize(merged.size());
  }
  state.SetItemsProcessed(state.iterations() * (upper.size() + lower.size()));
}
BENCHMARK(BM_Merge)->Arg(1000)->Arg(100'000)->Arg(1'000'000);

}  // namespace
}  // namespace cowl
