// A file whose orderly close did not reach the disk is sealed: whatever a power cut leaves, what
// was flushed is there, in the overlay or in the layer that it became.
#include <gtest/gtest.h>

#include "base/units.h"
#include "layer/layer.h"
#include "overlay/overlay.h"
#include "support/crash_simulator.h"
#include "support/recording_storage.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBlocks = 8;

Bytes Filled(int value) { return Bytes(kBlockBytes, static_cast<std::byte>(value)); }

class HalfClosedTest : public testing::Test {
 protected:
  // The clean superblock is written, and the sync behind it fails.
  void WriteAndHalfClose() {
    auto made = RunInline(Overlay::Create(loop_, disk_, {id_, {}, kGiB}));
    ASSERT_OK(made);
    for (uint64_t block = 0; block < kBlocks; ++block) {
      const Bytes data = Filled(static_cast<int>(block) + 1);
      ASSERT_OK(RunInline((*made)->Write(block, data)));
    }
    ASSERT_OK(RunInline((*made)->Flush()));
    disk_.FailNthSync(2, EIO);  // the first is the checkpoint's
    ASSERT_FALSE(RunInline((*made)->Close()).ok());
  }

  void Seal() {
    auto opened = RunInline(Overlay::Open(loop_, disk_, id_, OpenMode::kReadWrite, false));
    ASSERT_OK(opened);
    ASSERT_OK(RunInline((*opened)->SealToLayer(kGiB, {}, "test")));
  }

  void ExpectAllThere(MemoryStorage& left) {
    auto layer = RunInline(LoadLayerMap(left, DataFileName(id_)));
    if (layer.ok()) return ExpectInLayer(left, **layer);
    auto opened = RunInline(Overlay::Open(loop_, left, id_, OpenMode::kReadWrite, false));
    ASSERT_OK(opened);
    for (uint64_t block = 0; block < kBlocks; ++block) {
      Segment segment;
      (*opened)->VisitRange(block, block + 1, [&](const Segment& piece) { segment = piece; });
      ASSERT_EQ(segment.kind, Segment::Kind::kData) << "block " << block << " is gone";
      Bytes found(kBlockBytes);
      ASSERT_OK(RunInline((*opened)->ReadSlots(segment.physical, found)));
      ASSERT_TRUE(found == Filled(static_cast<int>(block) + 1)) << block;
    }
  }

  void ExpectInLayer(MemoryStorage& left, const LayerMap& layer) {
    auto file = RunInline(DataFile::Open(left, DataFileName(id_)));
    ASSERT_OK(file);
    uint64_t blocks = 0;
    for (const Extent& extent : layer.map.extents.extents()) {
      for (uint64_t i = 0; i < extent.length(); ++i, ++blocks) {
        Bytes found(kBlockBytes);
        ASSERT_OK(RunInline((*file)->Read(extent.physical() + i, found)));
        ASSERT_TRUE(found == Filled(static_cast<int>(extent.start() + i) + 1));
      }
    }
    ASSERT_EQ(blocks, kBlocks);
  }

  InlineLoop loop_;
  RecordingStorage disk_;
  const Uuid id_ = Uuid::Random();
};

TEST_F(HalfClosedTest, IsSealedWithoutLoss) {
  WriteAndHalfClose();
  const size_t began = disk_.position();
  Seal();
  const size_t ended = disk_.position();
  ASSERT_GT(ended, began);
  CrashSimulator simulator(disk_.log());
  for (size_t position = began; position <= ended; ++position) {
    for (const CrashMode mode :
         {CrashMode::kDropUnsynced, CrashMode::kPrefix, CrashMode::kRandom}) {
      for (uint64_t seed = 1; seed <= 20; ++seed) {
        MemoryStorage left = simulator.Build(position, mode, seed);
        ExpectAllThere(left);
        ASSERT_FALSE(HasFatalFailure())
            << "cut at " << position << ", " << CrashModeName(mode) << ", seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace cowl
