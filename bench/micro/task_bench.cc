// What the style of the data path costs: one "request" of three steps (look up, I/O that is done at
// once, answer) as nested coroutines over the file seam, and as callbacks over the same seam.
// Decision: docs/decisions/0001-coroutines.md.
#include <benchmark/benchmark.h>

#include <functional>
#include <vector>

#include "base/status.h"
#include "io/memory_storage.h"
#include "io/task.h"

namespace cowl {
namespace {

constexpr size_t kBytes = 4096;

std::unique_ptr<File> MakeFile(MemoryStorage& storage) {
  std::unique_ptr<File> file = *storage.Open("bench", OpenMode::kCreate);
  const std::vector<std::byte> content(kBytes, std::byte{1});
  IoRequest request{IoRequest::Op::kWrite, 0, 0, {}, {}, {}};
  const iovec buffer{const_cast<std::byte*>(content.data()), kBytes};
  request.buffers = {&buffer, 1};
  file->Start(request);
  return file;
}

Task<absl::Status> ReadBlock(File& file, std::span<std::byte> into) {
  co_return co_await file.Read(0, into);
}

Task<absl::Status> Request(File& file, std::span<std::byte> into) {
  COWL_CO_RETURN_IF_ERROR(co_await ReadBlock(file, into));
  co_return absl::OkStatus();
}

void BM_Coroutines(benchmark::State& state) {
  MemoryStorage storage;
  const std::unique_ptr<File> file = MakeFile(storage);
  std::vector<std::byte> into(kBytes);
  for (auto _ : state) {
    Task<absl::Status> task = Request(*file, into);
    absl::Status status = RunInline(std::move(task));
    benchmark::DoNotOptimize(status);
  }
}
BENCHMARK(BM_Coroutines);

using Callback = std::function<void(absl::Status)>;

void ReadBlockThen(File& file, std::span<std::byte> into, Callback done) {
  iovec buffer{into.data(), into.size()};
  IoRequest request{IoRequest::Op::kRead, 0, 0, {}, {}, {}};
  request.buffers = {&buffer, 1};
  file.Start(request);
  done(std::move(request.status));
}

void RequestThen(File& file, std::span<std::byte> into, Callback done) {
  ReadBlockThen(file, into,
                [done = std::move(done)](absl::Status status) { done(std::move(status)); });
}

void BM_Callbacks(benchmark::State& state) {
  MemoryStorage storage;
  const std::unique_ptr<File> file = MakeFile(storage);
  std::vector<std::byte> into(kBytes);
  for (auto _ : state) {
    absl::Status result;
    RequestThen(*file, into, [&](absl::Status status) { result = std::move(status); });
    benchmark::DoNotOptimize(result);
  }
}
BENCHMARK(BM_Callbacks);

}  // namespace
}  // namespace cowl
