// What each request carries: its block's checksum, its journal record, its NBD header.
#include <benchmark/benchmark.h>

#include <random>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/units.h"
#include "format/journal_record.h"
#include "nbd/codec.h"

namespace cowl {
namespace {

std::vector<std::byte> RandomBytes(size_t count) {
  std::mt19937_64 random(1);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

void BM_ChecksumOfABlock(benchmark::State& state) {
  const std::vector<std::byte> block = RandomBytes(kBlockBytes);
  for (auto _ : state) benchmark::DoNotOptimize(Xxh3(block));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBlockBytes));
}
BENCHMARK(BM_ChecksumOfABlock);

JournalRecord WriteOf(uint64_t blocks) {
  JournalRecord record;
  record.type = JournalRecord::Type::kWrite;
  record.order = 2;
  record.start = 7;
  record.blocks = blocks;
  record.runs = {{100, blocks}};
  record.sums.assign(blocks, 0x1234567890abcdef);
  return record;
}

void BM_EncodeRecord(benchmark::State& state) {
  const JournalRecord record = WriteOf(static_cast<uint64_t>(state.range(0)));
  std::vector<std::byte> bytes;
  for (auto _ : state) {
    bytes.clear();
    benchmark::DoNotOptimize(EncodeRecord(record, 1, bytes));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_EncodeRecord)->Arg(1)->Arg(256);

void BM_DecodeRecord(benchmark::State& state) {
  std::vector<std::byte> bytes;
  EncodeRecord(WriteOf(static_cast<uint64_t>(state.range(0))), 1, bytes);
  for (auto _ : state) {
    size_t length = 0;
    const auto record = DecodeRecord(bytes, 1, &length);
    if (!record) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(length);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_DecodeRecord)->Arg(1)->Arg(256);

void BM_DecodeRequest(benchmark::State& state) {
  std::vector<std::byte> bytes(28);
  StoreBig<uint32_t>(bytes.data(), 0x25609513);
  StoreBig<uint64_t>(bytes.data() + 16, 4096);
  StoreBig<uint32_t>(bytes.data() + 24, 4096);
  for (auto _ : state) {
    const auto request = nbd::DecodeRequest(bytes);
    if (!request) state.SkipWithError("not decoded");
    benchmark::DoNotOptimize(request);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_DecodeRequest);

void BM_EncodeSimpleReply(benchmark::State& state) {
  uint64_t cookie = 0;
  for (auto _ : state) benchmark::DoNotOptimize(nbd::EncodeSimpleReply({0, ++cookie}));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_EncodeSimpleReply);

}  // namespace
}  // namespace cowl
