// A random stream of everything a device and its stack can do, against the plain model, over memory
// and real files.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "device/frozen_chain.h"
#include "layer/layer_writer.h"
#include "stack/model.h"
#include "stack/seeds.h"
#include "stack/stack.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

constexpr uint64_t kSizeMin = 6 * kMiB + 512;
constexpr uint64_t kSizeMax = 9 * kMiB + 1536;
constexpr uint64_t kRequestMax = 2 * kMiB;

using Random = std::mt19937_64;

struct Range {
  uint64_t offset = 0;
  uint64_t length = 0;
};

Task<absl::StatusOr<std::vector<MapExtent>>> MapOnLoop(CowDevice* device, Range range,
                                                       size_t extents_max) {
  co_return device->Map(range.offset, range.length, extents_max);
}

// Writes that are in flight together, with a snapshot among them.
Task<void> WriteInto(CowDevice* device, uint64_t offset, const std::vector<std::byte>* bytes,
                     absl::Status* status, int* left, WaitQueue* done) {
  *status = co_await device->Write(offset, *bytes, {});
  if (--*left == 0) done->WakeAll();
}

struct Burst {
  std::vector<uint64_t> offsets;
  std::vector<std::vector<std::byte>> contents;
};

Task<absl::Status> RunBurst(Stack* stack, const Burst* burst, bool with_snapshot) {
  std::vector<absl::Status> statuses(burst->offsets.size());
  int left = static_cast<int>(burst->offsets.size());
  WaitQueue done;
  for (size_t i = 0; i < burst->offsets.size(); ++i) {
    StartDetached(WriteInto(&stack->device(), burst->offsets[i], &burst->contents[i], &statuses[i],
                            &left, &done));
  }
  absl::Status status;
  if (with_snapshot) status = co_await stack->Snapshot();
  if (left > 0) co_await done.Wait();
  for (const absl::Status& written : statuses) {
    if (status.ok()) status = written;
  }
  co_return status;
}

Task<absl::StatusOr<Uuid>> MakeBase(Storage* storage, const std::vector<std::byte>* bytes,
                                    uint64_t first_block, uint64_t size_bytes) {
  LayerWriterOptions options;
  options.size_bytes = size_bytes;
  auto writer = LayerWriter::Create(*storage, "layers/base", options);
  if (!writer.ok()) co_return writer.status();
  COWL_CO_RETURN_IF_ERROR(co_await (*writer)->Write(first_block, *bytes));
  absl::StatusOr<LayerSummary> summary = co_await (*writer)->Finish();
  if (!summary.ok()) co_return summary.status();
  COWL_CO_RETURN_IF_ERROR(storage->Rename("layers/base", DataFileName(summary->id)));
  co_return summary->id;
}

class StreamTest : public IoRigTest {
 protected:
  void Start(Random random) {
    random_ = random;
    if (!rig().directory().empty())
      std::filesystem::create_directory(rig().directory() + "/layers");
    model_ = std::make_unique<DeviceModel>(kSizeMin, kSizeMax);
    std::vector<std::byte> base(64 * kBlockBytes, std::byte{7});
    const absl::StatusOr<Uuid> id = Run(MakeBase(&storage(), &base, 40, kSizeMin));
    ASSERT_OK(id);
    model_->Write(BlockOffsetBytes(40), base);
    model_->Seal();
    stack_ =
        std::make_unique<Stack>(rig().loop(), storage(), StackCatalog{kSizeMin, {*id}, {}, {}});
    ASSERT_OK(Run(stack_->Open()));
  }
  void TearDown() override {
    if (stack_ && stack_->is_open()) {
      EXPECT_OK(Run(stack_->Close()));
    }
    stack_.reset();
  }

  // Most requests are aligned and small, and fall where others did.
  Range RandomRange() {
    const uint64_t unit = random_() % 4 == 0 ? 1 : random_() % 2 == 0 ? kSectorBytes : kBlockBytes;
    const uint64_t size = model_->size_bytes();
    const uint64_t most = random_() % 8 == 0   ? kRequestMax
                          : random_() % 2 == 0 ? 64 * kKiB
                                               : 3 * kBlockBytes;
    const uint64_t length = RoundUp(random_() % most + 1, unit);
    uint64_t offset = random_() % 16 == 0 ? size - std::min(size, length) : random_() % size;
    offset = offset / unit * unit;
    return {offset, std::min(length, size - offset)};
  }

  // Up to all of it: the device stores long runs of zeros as holes.
  void ZeroAPart(std::vector<std::byte>* bytes) {
    const size_t begin = random_() % 4 == 0 ? 0 : random_() % bytes->size();
    const size_t end =
        random_() % 4 == 0 ? bytes->size() : begin + random_() % (bytes->size() - begin);
    std::fill(bytes->begin() + static_cast<ptrdiff_t>(begin),
              bytes->begin() + static_cast<ptrdiff_t>(end), std::byte{0});
  }

  void Write() {
    const Range range = RandomRange();
    std::vector<std::byte> bytes = RandomBytes(random_, range.length);
    if (random_() % 4 == 0) ZeroAPart(&bytes);
    const WriteOptions options{.fua = random_() % 16 == 0};
    Say("write", range);
    ASSERT_OK(Run(device().Write(range.offset, bytes, options)));
    model_->Write(range.offset, bytes);
  }
  void Discard() {
    const Range range = RandomRange();
    Say("discard", range);
    ASSERT_OK(Run(device().Discard(range.offset, range.length, {.fua = random_() % 16 == 0})));
    model_->Discard(range.offset, range.length);
  }
  void WriteZeroes() {
    const Range range = RandomRange();
    const ZeroOptions options{
        .fua = random_() % 16 == 0, .no_hole = random_() % 3 == 0, .fast_only = random_() % 4 == 0};
    Say("zero", range);
    const absl::Status status = Run(device().WriteZeroes(range.offset, range.length, options));
    if (options.no_hole && options.fast_only) {
      ASSERT_THAT(status, IsCode(absl::StatusCode::kUnimplemented));
      return;
    }
    ASSERT_OK(status);
    model_->WriteZeroes(range.offset, range.length, options.no_hole);
  }
  void CheckRead(const Range& range) {
    std::vector<std::byte> bytes(range.length, std::byte{0xee});
    ASSERT_OK(Run(device().Read(range.offset, bytes)));
    const std::span<const std::byte> expected = model_->Bytes(range.offset, range.length);
    const auto differs = std::mismatch(bytes.begin(), bytes.end(), expected.begin());
    ASSERT_TRUE(differs.first == bytes.end())
        << "byte " << range.offset + static_cast<uint64_t>(differs.first - bytes.begin()) << " of "
        << range.offset << " + " << range.length << " is wrong";
  }
  void CheckMap() {
    const Range range = random_() % 4 == 0 ? Range{0, model_->size_bytes()} : RandomRange();
    if (range.length == 0) return;
    const size_t extents_max = random_() % 2 == 0 ? 1 + random_() % 5 : 1 << 20;
    const auto extents = Run(MapOnLoop(&device(), range, extents_max));
    ASSERT_OK(extents);
    ASSERT_GE(extents->size(), 1u);
    ASSERT_LE(extents->size(), extents_max);
    const uint64_t end = extents->back().offset_bytes + extents->back().length_bytes;
    if (extents->size() < extents_max) {
      ASSERT_EQ(end, range.offset + range.length);
    }
    ASSERT_EQ(model_->CheckMap(range.offset, range.length, *extents), "");
  }
  void CheckAll() {
    CheckRead({0, model_->size_bytes()});
    if (HasFailure()) return;
    const auto extents = Run(MapOnLoop(&device(), {0, model_->size_bytes()}, 1 << 20));
    ASSERT_OK(extents);
    ASSERT_EQ(model_->CheckMap(0, model_->size_bytes(), *extents), "");
  }
  // Each layer as the top of a chain of its own.
  void CheckLayers() {
    const std::vector<Uuid>& layers = stack_->catalog().layers;
    if (layers.empty()) return;
    const size_t top = random_() % layers.size();
    std::vector<std::string> names;
    for (size_t i = top; i < layers.size(); ++i) names.push_back(DataFileName(layers[i]));
    auto frozen = Run(OpenFrozenChain(storage(), names, kSizeMax));
    ASSERT_OK(frozen);
    std::vector<std::byte> bytes(kSizeMax);
    ASSERT_OK(Run((*frozen)->Read(0, bytes)));
    std::vector<std::byte> expected = model_->LayerBytes(top);
    expected.resize(kSizeMax);
    ASSERT_TRUE(bytes == expected) << "layer " << top << " of " << layers.size();
  }

  void SnapshotUnderLoad() {
    if (!device().has_overlay()) return;
    const uint64_t stride = model_->size_bytes() / 9 / kSectorBytes * kSectorBytes;
    Burst burst;
    for (uint64_t i = 0; i < 8; ++i) {
      burst.offsets.push_back(i * stride + random_() % 4 * kSectorBytes);
      burst.contents.push_back(RandomBytes(random_, 1 + random_() % (stride - 4 * kSectorBytes)));
    }
    Say("snapshot under load", {});
    ASSERT_OK(Run(RunBurst(stack_.get(), &burst, true)));
    // A write in flight lands in the overlay or in its successor: where, the model learns by one
    // level for both, and by content.
    for (size_t i = 0; i < burst.offsets.size(); ++i)
      model_->Write(burst.offsets[i], burst.contents[i]);
    model_->Seal();
    CheckRead({0, model_->size_bytes()});
    if (HasFailure()) return;
    // So that levels agree again.
    ASSERT_OK(Run(stack_->Snapshot()));
    model_->Seal();
    ASSERT_OK(Run(stack_->DeleteLayer(1)));
    model_->DeleteLayer(1);
  }
  void Reopen() {
    const bool clean = random_() % 2 == 0;
    Say(clean ? "close" : "drop", {});
    if (clean) {
      ASSERT_OK(Run(stack_->Close()));
    } else {
      ASSERT_OK(Run(stack_->Drop()));
    }
    ASSERT_OK(Run(stack_->Open()));
    CheckAll();
  }
  void ChangeLayers() {
    const size_t count = stack_->catalog().layers.size();
    switch (random_() % 8) {
      case 0:
        Say("reset", {});
        ASSERT_OK(Run(stack_->Reset()));
        model_->Reset();
        break;
      case 1:
        if (!device().has_overlay()) return;
        Say("commit", {});
        ASSERT_OK(Run(stack_->Commit()));
        model_->Seal();
        break;
      case 2:
        if (count < 6 || random_() % 4 != 0) return;
        Say("collapse", {});
        ASSERT_OK(Run(stack_->Collapse()));
        model_->Collapse();
        break;
      case 3:
      case 4:
        if (count < 2) return;
        {
          const size_t index = 1 + random_() % (count - 1);
          Say("delete layer", {index, count});
          ASSERT_OK(Run(stack_->DeleteLayer(index)));
          model_->DeleteLayer(index);
        }
        break;
      case 5:
        SnapshotUnderLoad();
        break;
      case 6: {
        const uint64_t size =
            kSizeMin + random_() % (kSizeMax - kSizeMin) / kSectorBytes * kSectorBytes;
        Say("resize", {size, 0});
        ASSERT_OK(Run(stack_->Resize(size)));
        model_->Resize(size);
        break;
      }
      default:
        Say("collect garbage", {});
        ASSERT_OK(Run(stack_->CollectGarbage()));
        break;
    }
    if (!HasFailure()) CheckAll();
  }

  void Step() {
    const uint64_t dice = random_() % 1000;
    if (dice < 380) return Write();
    if (dice < 460) return Discard();
    if (dice < 540) return WriteZeroes();
    if (dice < 800) return CheckRead(RandomRange());
    if (dice < 880) return CheckMap();
    if (dice < 930) return Flush();
    if (dice < 940) return Checkpoint();
    if (dice < 955) return CheckLayers();
    if (dice < 970) return Reopen();
    ChangeLayers();
  }
  void Flush() { ASSERT_OK(Run(device().Flush())); }
  void Checkpoint() {
    if (!device().has_overlay()) return;
    ASSERT_OK(Run(CheckpointNow()));
  }
  Task<absl::Status> CheckpointNow() { co_return co_await device().overlay()->Checkpoint(); }

  CowDevice& device() { return stack_->device(); }
  void Say(const std::string& what, const Range& range) {
    history_.push_back(absl::StrCat(step_, ": ", what, " ", range.offset, " + ", range.length));
    if (history_.size() > 12) history_.erase(history_.begin());
  }

  Random random_;
  std::unique_ptr<DeviceModel> model_;
  std::unique_ptr<Stack> stack_;
  uint64_t step_ = 0;
  std::vector<std::string> history_;
};

TEST_P(StreamTest, ReadsWhatTheModelReads) {
  const bool in_memory = GetParam().is_memory;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(TestSteps(6));
  const uint64_t steps = TestSteps(in_memory ? 12'000 : 4'000);
  TestSeed();
  Start(TestRandom(in_memory ? 1 : 2));
  for (step_ = 0; step_ < steps && !HasFailure(); ++step_) {
    Step();
    if (std::chrono::steady_clock::now() > deadline) break;
  }
  if (!HasFailure()) CheckAll();
  std::string recent;
  for (const std::string& line : history_) absl::StrAppend(&recent, line, "\n");
  ASSERT_FALSE(HasFailure()) << "after step " << step_ << ", seed " << TestSeed() << ":\n"
                             << recent;
  RecordProperty("steps", static_cast<int>(step_));
  std::printf("%llu steps, %zu layers at the end\n", static_cast<unsigned long long>(step_),
              stack_->catalog().layers.size());
}

INSTANTIATE_TEST_SUITE_P(AllStorages, StreamTest, testing::ValuesIn(AllRigs()), RigName);

}  // namespace
}  // namespace cowl
