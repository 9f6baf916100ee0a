// What a copy-on-write device promises beyond reading back: sizes, caps, refusals, maps, files that
// are made late, blocks that are bad.
#include "device/cow_device.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "io/memory_storage.h"
#include "stack/seeds.h"
#include "stack/shuffled_loop.h"
#include "stack/stack.h"
#include "support/faulty_storage.h"
#include "support/recording_storage.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kSizeBytes = 64 * kBlockBytes + 3 * kSectorBytes;

class CowDeviceTest : public testing::Test {
 protected:
  void Open(uint64_t cap_blocks = 0) {
    stack_.cap_blocks = cap_blocks;
    ASSERT_OK(RunInline(stack_.Open()));
  }
  void TearDown() override {
    if (stack_.is_open()) RunInline(stack_.Close()).IgnoreError();
  }
  CowDevice& device() { return stack_.device(); }
  absl::Status Write(uint64_t offset, const Bytes& bytes) {
    return RunInline(device().Write(offset, bytes, {}));
  }
  absl::Status Fill(uint64_t block, uint64_t blocks, int value) {
    return Write(BlockOffsetBytes(block),
                 Bytes(BlockOffsetBytes(blocks), static_cast<std::byte>(value)));
  }
  absl::StatusOr<Bytes> Read(uint64_t offset, uint64_t length) {
    Bytes bytes(length);
    const absl::Status status = RunInline(device().Read(offset, bytes));
    if (!status.ok()) return status;
    return bytes;
  }
  static Bytes Of(uint64_t length, int value) {
    return Bytes(length, static_cast<std::byte>(value));
  }

  InlineLoop loop_;
  MemoryStorage memory_;
  FaultPlan plan_;
  FaultyStorage storage_{memory_, &plan_};
  Stack stack_{loop_, storage_, StackCatalog{kSizeBytes, {}, {}, {}}};
};

TEST_F(CowDeviceTest, RefusesWhatLiesBeyondTheEnd) {
  Open();
  Bytes bytes(512);
  EXPECT_OK(RunInline(device().Read(kSizeBytes - 512, bytes)));
  EXPECT_THAT(RunInline(device().Read(kSizeBytes - 511, bytes)),
              IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(RunInline(device().Read(UINT64_MAX, bytes)), IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Write(kSizeBytes, bytes), IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(RunInline(device().Discard(0, kSizeBytes + 1, {})),
              IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(RunInline(device().Discard(512, UINT64_MAX, {})),
              IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(RunInline(device().WriteZeroes(1, kSizeBytes, {})),
              IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(device().Map(1, kSizeBytes, 1), IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_OK(RunInline(device().Discard(0, kSizeBytes, {})));
  EXPECT_OK(RunInline(device().Read(kSizeBytes, std::span<std::byte>())));
}

TEST_F(CowDeviceTest, ADeviceThatIsNeverWrittenHasNoFile) {
  Open();
  EXPECT_EQ(*Read(0, kSizeBytes), Of(kSizeBytes, 0));
  EXPECT_OK(RunInline(device().Flush()));
  const auto map = device().Map(0, kSizeBytes, 10);
  ASSERT_OK(map);
  ASSERT_EQ(map->size(), 1u);
  EXPECT_EQ((*map)[0].depth, 0u);
  EXPECT_TRUE(memory_.files().empty());
  EXPECT_OK(Fill(1, 1, 5));
  EXPECT_EQ(memory_.files().size(), 1u);
}

TEST_F(CowDeviceTest, WhenTheFileCannotBeMadeTheWriteFailsAndTheNextTriesAgain) {
  Open();
  plan_.FailNth(CallFault{CallFault::Call::kCreate, "", 1, ENOSPC});
  EXPECT_EQ(StatusErrno(Fill(1, 1, 5)), ENOSPC);
  EXPECT_FALSE(device().has_overlay());
  EXPECT_OK(Fill(1, 1, 5));
  EXPECT_EQ(*Read(BlockOffsetBytes(1), kBlockBytes), Of(kBlockBytes, 5));
}

TEST_F(CowDeviceTest, ImagesAreReadOnly) {
  Open();
  DataFileCache files(storage_);
  CowDeviceOptions options;
  options.name = "base:latest";
  options.size_bytes = kSizeBytes;
  options.read_only = true;
  CowDevice image(files, nullptr, nullptr, options);
  EXPECT_TRUE(image.read_only());
  const Bytes bytes(512);
  for (const absl::Status& status :
       {RunInline(image.Write(0, bytes, {})), RunInline(image.Discard(0, 4096, {})),
        RunInline(image.WriteZeroes(0, 4096, {}))}) {
    EXPECT_THAT(status, IsCode(absl::StatusCode::kPermissionDenied));
    EXPECT_THAT(status, SaysThat("base:latest"));
  }
  EXPECT_OK(RunInline(image.Flush()));
}

TEST_F(CowDeviceTest, TheCapCountsLiveBlocks) {
  Open(/*cap_blocks=*/10);
  EXPECT_OK(Fill(0, 10, 1));
  EXPECT_OK(Fill(3, 4, 2)) << "writing over what is stored adds nothing";
  const absl::Status full = Fill(20, 1, 3);
  EXPECT_EQ(StatusErrno(full), ENOSPC);
  EXPECT_THAT(full, SaysThat("cap"));
  EXPECT_EQ(StatusErrno(Write(BlockOffsetBytes(20) + 5, Of(10, 3))), ENOSPC)
      << "part of a new block";
  EXPECT_OK(Write(BlockOffsetBytes(9) + 5, Of(10, 3)));
  EXPECT_OK(RunInline(device().Discard(0, BlockOffsetBytes(2), {})));
  EXPECT_OK(RunInline(device().WriteZeroes(BlockOffsetBytes(30), BlockOffsetBytes(5), {})))
      << "zeros store nothing";
  EXPECT_OK(Fill(20, 2, 3));
  EXPECT_EQ(StatusErrno(Fill(22, 1, 3)), ENOSPC);
  EXPECT_EQ(StatusErrno(RunInline(device().WriteZeroes(BlockOffsetBytes(40), BlockOffsetBytes(1),
                                                       {.no_hole = true}))),
            ENOSPC);
  device().SetCap({11, {}});
  EXPECT_OK(Fill(22, 1, 3));
}

TEST_F(CowDeviceTest, TheCapCountsWhatIsSeenOfItsOwnLayers) {
  Open();
  ASSERT_OK(Fill(0, 5, 1));
  ASSERT_OK(RunInline(stack_.Snapshot()));
  device().SetCap({7, {stack_.catalog().layers.front()}});
  EXPECT_OK(Fill(0, 5, 2)) << "what is written over is stored once";
  EXPECT_OK(Fill(10, 2, 2));
  EXPECT_EQ(StatusErrno(Fill(12, 1, 2)), ENOSPC);
  ASSERT_OK(RunInline(stack_.Snapshot()));
  device().SetCap({7, {stack_.catalog().layers.begin(), stack_.catalog().layers.end()}});
  EXPECT_EQ(StatusErrno(Fill(12, 1, 3)), ENOSPC) << "the layers below count";
  EXPECT_OK(RunInline(device().Discard(0, BlockOffsetBytes(1), {})));
  EXPECT_OK(Fill(12, 1, 3)) << "a discard makes room";
  EXPECT_EQ(StatusErrno(Fill(13, 1, 3)), ENOSPC);
  device().SetCap({7, {}});
  EXPECT_OK(Fill(13, 6, 3)) << "somebody else's layers do not count";
}

TEST_F(CowDeviceTest, TheCapCountsOnceWhatIsWrittenOverWhileItIsSealed) {
  Open(/*cap_blocks=*/6);
  ASSERT_OK(Fill(0, 5, 1));
  ASSERT_OK(RunInline(stack_.BeginSnapshot()));
  EXPECT_OK(Fill(0, 5, 2));
  EXPECT_OK(Fill(10, 1, 2));
  EXPECT_EQ(StatusErrno(Fill(11, 1, 2)), ENOSPC);
  ASSERT_OK(RunInline(stack_.FinishSnapshot()));
  EXPECT_EQ(StatusErrno(Fill(11, 1, 2)), ENOSPC);
  EXPECT_OK(RunInline(device().Discard(0, BlockOffsetBytes(1), {})));
  EXPECT_OK(Fill(11, 1, 2));
}

// Blocks that only an unflushed overlay hides are still needed after a crash: see the crash tests.
TEST_F(CowDeviceTest, WhatTheOverlayHidesCanBeTakenOutOfTheLayerBelow) {
  Open();
  ASSERT_OK(Fill(0, 8, 1));
  ASSERT_OK(RunInline(stack_.Snapshot()));
  ASSERT_OK(Fill(2, 2, 2));
  ASSERT_OK(RunInline(device().Discard(BlockOffsetBytes(6), BlockOffsetBytes(10), {})));
  EXPECT_EQ(device().chain()->extents.DataBlocks(), 8u);
  ASSERT_OK(RunInline(stack_.DropHidden()));
  EXPECT_EQ(device().chain()->extents.DataBlocks(), 4u);
  ASSERT_OK(RunInline(stack_.CollectGarbage()));
  EXPECT_EQ(*Read(0, BlockOffsetBytes(2)), Of(BlockOffsetBytes(2), 1));
  EXPECT_EQ(*Read(BlockOffsetBytes(2), BlockOffsetBytes(2)), Of(BlockOffsetBytes(2), 2));
  EXPECT_EQ(*Read(BlockOffsetBytes(4), BlockOffsetBytes(2)), Of(BlockOffsetBytes(2), 1));
  EXPECT_EQ(*Read(BlockOffsetBytes(6), BlockOffsetBytes(2)), Of(BlockOffsetBytes(2), 0));
}

TEST_F(CowDeviceTest, NoHoleMeansThatLaterWritesNeedNoSpaceOfTheCap) {
  Open(/*cap_blocks=*/4);
  EXPECT_OK(RunInline(device().WriteZeroes(0, BlockOffsetBytes(4), {.no_hole = true})));
  EXPECT_EQ(StatusErrno(Fill(10, 1, 1)), ENOSPC);
  EXPECT_OK(Fill(0, 4, 1));
}

// Old kernels' nbd sends zeros as data. They take no space, hide what lies below, and give back
// what was stored there.
TEST_F(CowDeviceTest, AWriteOfZerosIsAHole) {
  Open(/*cap_blocks=*/20);
  ASSERT_OK(Fill(0, 10, 1));
  ASSERT_OK(RunInline(stack_.Snapshot()));
  ASSERT_OK(Fill(4, 10, 2));
  EXPECT_OK(RunInline(device().Write(0, Of(BlockOffsetBytes(12), 0), {.fua = true})));
  EXPECT_EQ(device().stored_blocks(), 2u);
  EXPECT_EQ(*Read(0, BlockOffsetBytes(12)), Of(BlockOffsetBytes(12), 0));
  EXPECT_EQ(*Read(BlockOffsetBytes(12), kBlockBytes), Of(kBlockBytes, 2));
  EXPECT_OK(Fill(20, 1, 0)) << "one block";
  EXPECT_EQ(device().stored_blocks(), 2u);
  EXPECT_OK(Fill(20, 40, 0)) << "the cap does not count them";
  EXPECT_OK(Write(BlockOffsetBytes(30) + 5, Of(BlockOffsetBytes(3), 0))) << "ragged ends are data";
  EXPECT_EQ(device().stored_blocks(), 4u);
}

// Data, a short run of zeros, data, a long one, data: only the long one is cut out.
TEST_F(CowDeviceTest, AWriteIsCutIntoDataAndLongRunsOfZeros) {
  Open();
  ASSERT_OK(Fill(0, 60, 9));
  Bytes bytes = Of(BlockOffsetBytes(38), 0);
  for (const uint64_t block : {0, 1, 9, 10, 29, 36})
    bytes[BlockOffsetBytes(block) + 4095] = std::byte{3};
  EXPECT_OK(Write(BlockOffsetBytes(2), bytes));
  EXPECT_EQ(*Read(BlockOffsetBytes(2), bytes.size()), bytes);
  std::vector<std::pair<uint64_t, uint64_t>> holes;
  const auto extents = device().Map(BlockOffsetBytes(2), bytes.size(), 100);
  ASSERT_OK(extents);
  for (const MapExtent& extent : *extents) {
    if (extent.type != MapExtent::Type::kZero) continue;
    holes.emplace_back(extent.offset_bytes / kBlockBytes - 2, extent.length_bytes / kBlockBytes);
  }
  // Blocks 2 to 8 are seven, 11 to 28 eighteen, 30 to 35 six, 37 one.
  EXPECT_EQ(holes, (std::vector<std::pair<uint64_t, uint64_t>>{{11, 18}}));
}

TEST_F(CowDeviceTest, MapTellsTypesAndDepths) {
  Open();
  ASSERT_OK(Fill(0, 4, 1));
  ASSERT_OK(RunInline(stack_.Snapshot()));
  ASSERT_OK(Fill(2, 4, 2));
  ASSERT_OK(RunInline(device().Discard(BlockOffsetBytes(8), BlockOffsetBytes(2), {})));
  const auto map = device().Map(100, BlockOffsetBytes(20), 100);
  ASSERT_OK(map);
  struct Expected {
    uint64_t offset, length;
    MapExtent::Type type;
    uint32_t depth;
  };
  const Expected expected[] = {
      {100, 2 * kBlockBytes - 100, MapExtent::Type::kData, 2},
      {2 * kBlockBytes, 4 * kBlockBytes, MapExtent::Type::kData, 1},
      {6 * kBlockBytes, 2 * kBlockBytes, MapExtent::Type::kZero, 0},
      {8 * kBlockBytes, 2 * kBlockBytes, MapExtent::Type::kZero, 1},
      {10 * kBlockBytes, 10 * kBlockBytes + 100, MapExtent::Type::kZero, 0}};
  ASSERT_EQ(map->size(), std::size(expected));
  for (size_t i = 0; i < map->size(); ++i) {
    EXPECT_EQ((*map)[i].offset_bytes, expected[i].offset) << i;
    EXPECT_EQ((*map)[i].length_bytes, expected[i].length) << i;
    EXPECT_EQ((*map)[i].type, expected[i].type) << i;
    EXPECT_EQ((*map)[i].depth, expected[i].depth) << i;
  }
  EXPECT_EQ(device().Map(0, kSizeBytes, 2)->size(), 2u);
}

TEST_F(CowDeviceTest, TheLastBlockMayBeAPart) {
  Open();
  const uint64_t last = 64 * kBlockBytes;
  ASSERT_OK(Write(last, Of(3 * kSectorBytes, 9)));
  EXPECT_EQ(*Read(last + 512, 1024), Of(1024, 9));
  ASSERT_OK(RunInline(device().Discard(last + 512, 1024, {}))) << "ragged: nothing happens";
  EXPECT_EQ(*Read(last, 1536), Of(1536, 9));
  ASSERT_OK(RunInline(device().WriteZeroes(last + 512, 1024, {})));
  EXPECT_EQ(*Read(last + 512, 1024), Of(1024, 0));
  EXPECT_EQ(*Read(last, 512), Of(512, 9));
  ASSERT_OK(RunInline(device().Discard(last, 1536, {}))) << "up to the end: whole";
  EXPECT_EQ(*Read(last, 1536), Of(1536, 0));
  EXPECT_EQ(device().stored_blocks(), 0u);
}

// A flipped bit is an error that names the device; the rest stays readable; a whole-block write
// mends it.
TEST_F(CowDeviceTest, ABadBlockIsAnErrorUntilItIsWrittenAnew) {
  Open();
  ASSERT_OK(Fill(0, 8, 1));
  uint64_t physical = 0;
  device().overlay()->VisitRange(3, 4, [&](const Segment& piece) { physical = piece.physical; });
  plan_.FlipBit(device().overlay()->file().path(), BlockOffsetBytes(physical) + 77, 3);
  const absl::StatusOr<Bytes> bad = Read(BlockOffsetBytes(2), BlockOffsetBytes(4));
  EXPECT_THAT(bad, IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(bad, SaysThat("device"));
  EXPECT_THAT(Write(BlockOffsetBytes(3) + 5, Of(5, 2)), IsCode(absl::StatusCode::kDataLoss))
      << "part of it needs the rest of it";
  EXPECT_OK(Read(0, BlockOffsetBytes(3)));
  EXPECT_OK(Read(BlockOffsetBytes(4), BlockOffsetBytes(4)));
  EXPECT_OK(Fill(3, 1, 6));
  EXPECT_EQ(*Read(BlockOffsetBytes(3), kBlockBytes), Of(kBlockBytes, 6));
}

// A write copies nothing: no read of the layer below, one data write of its own size.
TEST_F(CowDeviceTest, TheFirstWriteToABlockReadsNothing) {
  Open();
  ASSERT_OK(Fill(0, 60, 1));
  ASSERT_OK(RunInline(stack_.Snapshot()));
  plan_.FailNth(Fault{IoRequest::Op::kRead, "", 1, EIO, UINT64_MAX});
  EXPECT_OK(Fill(10, 1, 2));
  EXPECT_EQ(plan_.hit_count(), 0u);
  EXPECT_FALSE(Write(BlockOffsetBytes(20) + 1, Of(1, 1)).ok()) << "part of a block does read";
  plan_.ClearFaults();
}

TEST_F(CowDeviceTest, AFailedSwitchLeavesTheDeviceAsItWas) {
  Open();
  ASSERT_OK(Fill(0, 8, 1));
  for (uint64_t nth = 1; nth <= 2; ++nth) {
    auto successor = RunInline(Overlay::Create(loop_, storage_, {Uuid::Random(), {}, kSizeBytes}));
    ASSERT_OK(successor);
    // The seal's write, or the first of the successor.
    plan_.FailNth(
        Fault{IoRequest::Op::kWrite, nth == 1 ? "" : (*successor)->file().path(), 1, ENOSPC});
    EXPECT_FALSE(RunInline(device().SwitchOverlay(*std::move(successor))).ok());
    plan_.ClearFaults();
    EXPECT_FALSE(device().is_sealing());
    ASSERT_OK(Fill(8 + nth, 1, 7));
    EXPECT_OK(RunInline(device().Flush()));
    EXPECT_EQ(*Read(0, BlockOffsetBytes(8)), Of(BlockOffsetBytes(8), 1));
  }
  ASSERT_OK(RunInline(stack_.Snapshot()));
  EXPECT_EQ(*Read(BlockOffsetBytes(10), kBlockBytes), Of(kBlockBytes, 7));
}

// The layer is there, though the attempt to make it failed at its very end.
TEST_F(CowDeviceTest, NothingKeepsAnOverlayThatIsALayerOpen) {
  Open();
  ASSERT_OK(Fill(0, 8, 1));
  ASSERT_OK(RunInline(stack_.BeginSnapshot()));
  const std::string name = DataFileName(stack_.catalog().overlay);
  plan_.FailNth(Fault{IoRequest::Op::kSync, name, 2, EIO});
  EXPECT_FALSE(RunInline(stack_.FinishSnapshot()).ok());
  const auto layer = RunInline(LoadLayerMap(storage_, name));
  ASSERT_OK(layer);
  const auto chain = MergeChain({&*layer, 1});
  ASSERT_OK(chain);
  EXPECT_GT(memory_.files().at(name).use_count(), 1);
  device().InstallChain(*chain);
  EXPECT_EQ(memory_.files().at(name).use_count(), 1) << "the file is open still";
  EXPECT_EQ(*Read(0, BlockOffsetBytes(8)), Of(BlockOffsetBytes(8), 1));
  EXPECT_OK(RunInline(device().Flush()));
}

// One request of many pieces, and a snapshot that comes when the first are written.
TEST(CowDeviceSwitchTest, ALongChangeDoesNotHoldASnapshotUp) {
  constexpr uint64_t kBytes = 64 * kMiB;
  RecordingStorage storage;
  ShuffledLoop loop(storage, 1);
  Stack stack(loop, storage, StackCatalog{kBytes, {}, {}, {}});
  ASSERT_OK(loop.Drive(stack.Open()));
  const Bytes one(kBlockBytes, std::byte{1});
  ASSERT_OK(loop.Drive(stack.device().Write(0, one, {})));
  std::optional<absl::Status> zeroed;
  internal::RunInto(stack.device().WriteZeroes(0, kBytes, ZeroOptions{.no_hole = true}), &zeroed);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(loop.Step());
  ASSERT_OK(loop.Drive(stack.BeginSnapshot()));
  EXPECT_FALSE(zeroed.has_value());
  EXPECT_LT(stack.device().stored_blocks(), BlocksFloor(kBytes) / 2);
  while (!zeroed.has_value()) {
    if (!loop.Step()) loop.WakeSomeSleeper();
  }
  EXPECT_OK(*zeroed);
  ASSERT_OK(loop.Drive(stack.FinishSnapshot()));
  Bytes found(kBlockBytes, std::byte{1});
  for (const uint64_t offset : {uint64_t{0}, kBytes / 2, kBytes - kBlockBytes}) {
    ASSERT_OK(loop.Drive(stack.device().Read(offset, found)));
    EXPECT_EQ(found, Bytes(kBlockBytes));
  }
  ASSERT_OK(loop.Drive(stack.Close()));
}

}  // namespace
}  // namespace cowl
