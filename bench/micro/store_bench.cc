// The verbs that make and change devices, durable, on a real store below $TMPDIR (/var/tmp): the
// median and the 99th percentile of the time inside the process, by size of the device.
#include <benchmark/benchmark.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/units.h"
#include "cowl/store.h"
#include "device/export_table.h"
#include "io/loop_thread.h"

namespace cowl {
namespace {

constexpr int kRounds = 300;  // enough for a 99th percentile

class BenchStore {
 public:
  BenchStore() {
    const char* const base = getenv("TMPDIR");
    folder_ = std::string(base ? base : "/var/tmp") + "/cowl-bench-XXXXXX";
    if (::mkdtemp(folder_.data()) == nullptr) abort();
    directory_ = folder_ + "/store";
    if (!Store::Init(directory_).ok()) abort();
    Open();
  }
  void Open() {
    auto opened = Store::Open(directory_, {});
    if (!opened.ok()) abort();
    store_ = *std::move(opened);
  }
  void Close() { store_.reset(); }
  ~BenchStore() {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  Store& operator*() { return *store_; }
  Store* operator->() { return store_.get(); }

 private:
  std::string folder_;
  std::string directory_;
  std::unique_ptr<Store> store_;
};

// Times `verb` kRounds times, `prepare` and `clean` not counted.
void Measure(benchmark::State& state, const std::function<bool(int)>& prepare,
             const std::function<bool(int)>& verb, const std::function<bool(int)>& clean) {
  std::vector<double> ms;
  for (auto _ : state) {
    for (int i = 0; i < kRounds; ++i) {
      if (!prepare(i)) return state.SkipWithError("preparing failed");
      const auto begin = std::chrono::steady_clock::now();
      if (!verb(i)) return state.SkipWithError("the verb failed");
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - begin;
      ms.push_back(took.count());
      if (!clean(i)) return state.SkipWithError("cleaning up failed");
    }
  }
  std::sort(ms.begin(), ms.end());
  state.counters["p50_ms"] = ms[ms.size() / 2];
  state.counters["p99_ms"] = ms[ms.size() * 99 / 100];
}

bool Nothing(int) { return true; }

// Writes a block here and there, so that there is something to keep or to throw away.
bool Scribble(Store& store, const std::string& name, uint64_t seed) {
  const auto disk = store.exports().Open(name, "bench");
  if (!disk.ok()) return false;
  const std::vector<std::byte> block(kBlockBytes, std::byte{7});
  for (uint64_t i = 0; i < 8; ++i) {
    const uint64_t at = BlockOffsetBytes((seed * 8 + i) * 97 % 200'000);
    if (!RunOn((*disk)->loop(), (*disk)->device().Write(at, block, {})).ok()) return false;
  }
  return true;
}

// As Measure, on device "first" of range(0) bytes, which is written to before each round. range(1):
// 1 keeps it open, as with a client; 0 closes it before the verb.
void MeasureWritten(benchmark::State& state, Store& store, const std::function<bool(int)>& verb,
                    const std::function<bool(int)>& clean) {
  if (!store.CreateEmpty("first", {static_cast<uint64_t>(state.range(0))}).ok())
    return state.SkipWithError("the device could not be made");
  absl::StatusOr<std::shared_ptr<OpenExport>> client;
  if (state.range(1) == 1) client = store.exports().Open("first", "bench");
  const auto prepare = [&](int i) {
    // A name that stays waits until the device is closed.
    return Scribble(store, "first", static_cast<uint64_t>(i)) &&
           store.Rename("first", "first", false).ok();
  };
  Measure(state, prepare, verb, clean);
}

void BM_Create(benchmark::State& state) {
  BenchStore store;
  const auto size_bytes = static_cast<uint64_t>(state.range(0));
  Measure(
      state, Nothing,
      [&](int i) { return store->CreateEmpty("d" + std::to_string(i), {size_bytes}).ok(); },
      Nothing);
}

void BM_CreateFromImage(benchmark::State& state) {
  BenchStore store;
  const auto size_bytes = static_cast<uint64_t>(state.range(0));
  if (!store->CreateEmpty("first", {size_bytes}).ok() || !Scribble(*store, "first", 1) ||
      !store->Commit("first", "image", false).ok())
    return state.SkipWithError("the image could not be made");
  Measure(
      state, Nothing,
      [&](int i) { return store->Create("image", "d" + std::to_string(i), {}).ok(); }, Nothing);
}

void BM_Clone(benchmark::State& state) {
  BenchStore store;
  MeasureWritten(
      state, *store, [&](int i) { return store->Clone("first", "d" + std::to_string(i)).ok(); },
      [&](int i) { return store->RemoveDevice("d" + std::to_string(i), false).ok(); });
}

void BM_Reset(benchmark::State& state) {
  BenchStore store;
  MeasureWritten(
      state, *store, [&](int) { return store->Reset("first", false).ok(); }, Nothing);
}

void BM_Snapshot(benchmark::State& state) {
  BenchStore store;
  MeasureWritten(
      state, *store, [&](int) { return store->Snapshot("first", "image", true).ok(); }, Nothing);
}

// Opening a store of so many devices, of which a tenth has been written.
void BM_OpenStore(benchmark::State& state) {
  BenchStore store;
  for (int64_t i = 0; i < state.range(0); ++i) {
    const std::string name = "d" + std::to_string(i);
    if (!store->CreateEmpty(name, {1024 * kMiB}).ok() ||
        (i % 10 == 0 && !Scribble(*store, name, 1)))
      return state.SkipWithError("the devices could not be made");
  }
  for (auto _ : state) {
    state.PauseTiming();
    store.Close();
    state.ResumeTiming();
    store.Open();
  }
}

constexpr int64_t kSizes[] = {1ll << 30, 1ll << 40, 64ll << 40};

void Sizes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t bytes : kSizes) benchmark->Arg(bytes);
  benchmark->ArgName("bytes")->Iterations(1)->Unit(benchmark::kMillisecond);
}
void SizesOpenAndClosed(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t bytes : kSizes) {
    for (const int64_t is_open : {0, 1}) benchmark->Args({bytes, is_open});
  }
  benchmark->ArgNames({"bytes", "open"})->Iterations(1)->Unit(benchmark::kMillisecond);
}
void SizesClosed(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t bytes : kSizes) benchmark->Args({bytes, 0});
  benchmark->ArgNames({"bytes", "open"})->Iterations(1)->Unit(benchmark::kMillisecond);
}
BENCHMARK(BM_Create)->Apply(Sizes);
BENCHMARK(BM_CreateFromImage)->Apply(Sizes);
BENCHMARK(BM_Clone)->Apply(SizesOpenAndClosed);
BENCHMARK(BM_Reset)->Apply(SizesClosed);
BENCHMARK(BM_Snapshot)->Apply(SizesOpenAndClosed);
BENCHMARK(BM_OpenStore)->Arg(10'000)->Iterations(5)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cowl
