// Stacks of hundreds of layers: whatever is deleted from the middle, everything above reads as
// before.
#include <gtest/gtest.h>

#include <filesystem>

#include "device/frozen_chain.h"
#include "stack/model.h"
#include "stack/seeds.h"
#include "stack/stack.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

constexpr uint64_t kBlocks = 256;
constexpr uint64_t kSizeBytes = BlockOffsetBytes(kBlocks) - 1024;

class TallStackTest : public IoRigTest {
 protected:
  void SetUp() override {
    if (!rig().directory().empty())
      std::filesystem::create_directory(rig().directory() + "/layers");
    TestSeed();
    random_ = TestRandom(30);
    stack_ = std::make_unique<Stack>(rig().loop(), storage(), StackCatalog{kSizeBytes, {}, {}, {}});
    ASSERT_OK(Run(stack_->Open()));
  }
  void TearDown() override {
    if (stack_->is_open()) {
      EXPECT_OK(Run(stack_->Close()));
    }
  }
  void ChangeSome() {
    for (int i = 0; i < 6; ++i) {
      const uint64_t offset = random_() % kSizeBytes;
      const uint64_t length =
          1 + random_() % std::min<uint64_t>(kSizeBytes - offset, 5 * kBlockBytes);
      if (random_() % 4 == 0) {
        ASSERT_OK(Run(stack_->device().Discard(offset, length, {})));
        model_.Discard(offset, length);
      } else {
        const std::vector<std::byte> bytes = RandomBytes(random_, length);
        ASSERT_OK(Run(stack_->device().Write(offset, bytes, {})));
        model_.Write(offset, bytes);
      }
    }
  }
  void Grow() {
    ChangeSome();
    ASSERT_OK(Run(stack_->Snapshot()));
    model_.Seal();
  }
  void DeleteFromTheMiddle() {
    const size_t count = stack_->catalog().layers.size();
    if (count < 3) return;
    const size_t index = 1 + random_() % (count - 1);
    ASSERT_OK(Run(stack_->DeleteLayer(index)));
    model_.DeleteLayer(index);
  }
  Task<absl::StatusOr<std::vector<MapExtent>>> MapAll() {
    co_return stack_->device().Map(0, kSizeBytes, 1 << 20);
  }
  void Check() {
    std::vector<std::byte> bytes(kSizeBytes);
    ASSERT_OK(Run(stack_->device().Read(0, bytes)));
    const std::span<const std::byte> right = model_.Bytes(0, kSizeBytes);
    ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), right.begin())) << "seed " << TestSeed();
    const auto map = Run(MapAll());
    ASSERT_OK(map);
    ASSERT_EQ(model_.CheckMap(0, kSizeBytes, *map), "") << "seed " << TestSeed();
  }
  // Every layer that is left, as a disk of its own.
  void CheckLayers(size_t stride) {
    const std::vector<Uuid>& layers = stack_->catalog().layers;
    for (size_t top = 0; top < layers.size(); top += stride) {
      std::vector<std::string> names;
      for (size_t i = top; i < layers.size(); ++i) names.push_back(DataFileName(layers[i]));
      auto frozen = Run(OpenFrozenChain(storage(), names, kSizeBytes));
      ASSERT_OK(frozen);
      std::vector<std::byte> bytes(kSizeBytes);
      ASSERT_OK(Run((*frozen)->Read(0, bytes)));
      std::vector<std::byte> right = model_.LayerBytes(top);
      right.resize(kSizeBytes);
      ASSERT_TRUE(bytes == right) << "layer " << top << " of " << layers.size() << ", seed "
                                  << TestSeed();
    }
  }

  std::mt19937_64 random_;
  DeviceModel model_{kSizeBytes, kSizeBytes};
  std::unique_ptr<Stack> stack_;
};

TEST_P(TallStackTest, TwoHundredLayersWithDeletionsFromTheMiddle) {
  while (stack_->catalog().layers.size() < 200 && !HasFailure()) {
    Grow();
    if (random_() % 5 == 0) DeleteFromTheMiddle();
    if (random_() % 20 == 0) Check();
  }
  ASSERT_FALSE(HasFailure());
  Check();
  CheckLayers(13);
  for (int i = 0; i < 120 && !HasFailure(); ++i) DeleteFromTheMiddle();
  Check();
  ASSERT_OK(Run(stack_->CollectGarbage()));
  Check();
  CheckLayers(1);
  ASSERT_OK(Run(stack_->Close()));
  ASSERT_OK(Run(stack_->Open()));
  Check();
  // Space came back: no more is left than what the layers that are left say.
  uint64_t stored = 0;
  for (const Uuid& id : stack_->catalog().layers) {
    const auto layer = Run(LoadLayerMap(storage(), DataFileName(id)));
    ASSERT_OK(layer);
    stored += (*layer)->superblock.stored_blocks;
  }
  EXPECT_LE(stored, kBlocks * stack_->catalog().layers.size());
}

TEST_P(TallStackTest, ThreeHundredSnapshotsCollapseWhereTheyMust) {
  for (int i = 0; i < 300 && !HasFailure(); ++i) {
    Grow();
    if (stack_->catalog().layers.size() >= ChainMap::kDepthMax) {
      ASSERT_OK(Run(stack_->Collapse()));
      model_.Collapse();
      Check();
      ASSERT_OK(Run(stack_->CollectGarbage()));
    }
  }
  ASSERT_FALSE(HasFailure());
  Check();
  CheckLayers(17);
}

INSTANTIATE_TEST_SUITE_P(MemoryAndFiles, TallStackTest,
                         testing::Values(RigKind{"Memory", true, IoBackend::kSync, ""},
                                         RigKind{"Uring", false, IoBackend::kUring, ""}),
                         RigName);

}  // namespace
}  // namespace cowl
