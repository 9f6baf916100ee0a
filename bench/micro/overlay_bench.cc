// An overlay on files in memory: what a write costs above the disk (slot, checksum, record, map),
// and how fast a journal is replayed when a device is opened.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "base/units.h"
#include "io/loop.h"
#include "io/memory_storage.h"
#include "overlay/overlay.h"

namespace cowl {
namespace {

constexpr uint64_t kDeviceBytes = 1ull << 30;

// Writes `count` blocks of an overlay, each once, in random order.
std::unique_ptr<Overlay> MakeWritten(InlineLoop& loop, MemoryStorage& storage, Uuid id,
                                     uint64_t count) {
  auto overlay = RunInline(Overlay::Create(loop, storage, {id, {}, kDeviceBytes}));
  if (!overlay.ok()) return nullptr;
  std::vector<uint64_t> blocks(count);
  for (uint64_t i = 0; i < count; ++i) blocks[i] = i;
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937_64(1));
  const std::vector<std::byte> data(kBlockBytes, std::byte{7});
  for (const uint64_t block : blocks) {
    if (!RunInline((*overlay)->Write(block, data)).ok()) return nullptr;
  }
  return *std::move(overlay);
}

// range(0): blocks written, each once; what has been written twice is freed at checkpoints.
void BM_FirstWrites(benchmark::State& state) {
  const auto count = static_cast<uint64_t>(state.range(0));
  for (auto _ : state) {
    InlineLoop loop;
    MemoryStorage storage;
    auto overlay = MakeWritten(loop, storage, Uuid::Random(), count);
    if (overlay == nullptr) state.SkipWithError("a write failed");
    state.PauseTiming();
    if (overlay && !RunInline(overlay->Close()).ok()) state.SkipWithError("closing failed");
    overlay.reset();
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_FirstWrites)->Arg(10'000)->Unit(benchmark::kMillisecond);

// range(0): records in the journal that a kill left.
void BM_Replay(benchmark::State& state) {
  InlineLoop loop;
  MemoryStorage storage;
  const Uuid id = Uuid::Random();
  MakeWritten(loop, storage, id, static_cast<uint64_t>(state.range(0))).reset();
  for (auto _ : state) {
    auto overlay = RunInline(Overlay::Open(loop, storage, id, OpenMode::kRead, true));
    if (!overlay.ok()) state.SkipWithError("opening failed");
    benchmark::DoNotOptimize(overlay);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_Replay)->Arg(1000)->Arg(20'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cowl
