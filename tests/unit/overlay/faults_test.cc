// Full disks, failing syncs and writes, damaged files.
#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <random>

#include "base/status.h"
#include "io/memory_storage.h"
#include "layer/section_writer.h"
#include "overlay/overlay.h"
#include "stack/seeds.h"
#include "support/faulty_storage.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;

class FaultsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = RunInline(Overlay::Create(loop_, storage_, {id_, {}, kGiB}));
    ASSERT_OK(made);
    overlay_ = *std::move(made);
  }
  absl::Status Write(uint64_t block, uint64_t blocks = 1) {
    const Bytes data = RandomBytes(random_, blocks * kBlockBytes);
    const absl::Status status = RunInline(overlay_->Write(block, data));
    if (!status.ok()) return status;
    for (uint64_t i = 0; i < blocks; ++i) {
      const auto from = data.begin() + static_cast<ptrdiff_t>(i * kBlockBytes);
      model_[block + i] = Bytes(from, from + kBlockBytes);
    }
    return status;
  }
  absl::Status Zero(uint64_t block, uint64_t blocks) {
    const absl::Status status = RunInline(overlay_->Zero(block, blocks));
    if (status.ok()) {
      for (uint64_t i = 0; i < blocks; ++i) model_[block + i] = Bytes();
    }
    return status;
  }
  void Check() {
    for (const auto& [block, expected] : model_) {
      Segment segment;
      overlay_->VisitRange(block, block + 1, [&](const Segment& piece) { segment = piece; });
      ASSERT_EQ(segment.kind, expected.empty() ? Segment::Kind::kZero : Segment::Kind::kData)
          << block;
      if (expected.empty()) continue;
      Bytes found(kBlockBytes);
      ASSERT_OK(RunInline(overlay_->ReadSlots(segment.physical, found)));
      ASSERT_TRUE(found == expected) << block;
    }
  }
  // Ends the overlay as a kill does, and appends a record that is whole, fits, and may say of
  // itself that it is durable.
  void AppendByHand(JournalRecord record, bool is_durable = true) {
    overlay_.reset();
    auto file = memory_.Open(DataFileName(id_), OpenMode::kReadWrite);
    ASSERT_OK(file);
    const auto root = RunInline(ReadSuperblock(**file));
    ASSERT_OK(root);
    OverlayMap map;
    const auto replayed = RunInline(ReplayJournal(**file, *root, false, map));
    ASSERT_OK(replayed);
    const JournalPosition& end = replayed->position;
    record.order = end.last_order + 1;
    record.durable_order = is_durable ? record.order : 0;
    record.previous_check = end.last_check;
    record.incarnation = root->incarnation;
    Bytes bytes;
    EncodeRecord(record, root->secret, bytes);
    WriteContent(*memory_.files().at(DataFileName(id_)),
                 BlockOffsetBytes(end.chunk.physical) + end.offset_bytes, bytes);
  }
  void Reopen(bool close) {
    if (close) {
      ASSERT_OK(RunInline(overlay_->Close()));
    }
    overlay_.reset();
    auto opened = RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kReadWrite, false));
    ASSERT_OK(opened);
    overlay_ = *std::move(opened);
  }

  InlineLoop loop_;
  MemoryStorage memory_;
  FaultPlan plan_;
  FaultyStorage storage_{memory_, &plan_};
  const Uuid id_ = Uuid::Random();
  std::unique_ptr<Overlay> overlay_;
  std::map<uint64_t, Bytes> model_;
  std::mt19937_64 random_{3};
};

TEST_F(FaultsTest, AFullDiskRefusesWritesAndNothingElse) {
  plan_.SetRoomBytes(4 * kMiB);
  absl::Status status;
  uint64_t block = 0;
  while (status.ok()) status = Write(block++);
  EXPECT_THAT(status, IsCode(absl::StatusCode::kResourceExhausted));
  EXPECT_GT(block, 900u);
  EXPECT_OK(overlay_->failure());
  Check();
  EXPECT_OK(RunInline(overlay_->Flush()));
  // Rewriting works for ever where a flush can free what it replaces.
  for (int i = 0; i < 100; ++i) {
    ASSERT_THAT(Write(block + 100), IsCode(absl::StatusCode::kResourceExhausted));
  }
  ASSERT_OK(Zero(0, 100));
  for (uint64_t i = 0; i < 90; ++i) ASSERT_OK(Write(5000 + i)) << i;
  Check();
  Reopen(false);
  Check();
  for (uint64_t i = 0; i < 5; ++i) ASSERT_OK(Zero(200 + 2 * i, 1));
  EXPECT_OK(Write(0));
  Check();
  plan_.SetRoomBytes(std::nullopt);
  for (uint64_t i = 0; i < 2000; ++i) ASSERT_OK(Write(8000 + i));
  Check();
  Reopen(true);
  Check();
}

// Single discards on a disk that has no byte left, as many as one likes.
TEST_F(FaultsTest, DiscardsGoOnOnAFullDisk) {
  for (uint64_t i = 0; i < 4000; ++i) ASSERT_OK(Write(i));
  ASSERT_OK(RunInline(overlay_->Flush()));
  plan_.SetRoomBytes(0);
  absl::Status status;
  for (uint64_t i = 0; status.ok(); ++i) status = Write(10'000 + i);
  ASSERT_THAT(status, IsCode(absl::StatusCode::kResourceExhausted));
  for (uint64_t i = 0; i < 4000; i += 2) ASSERT_OK(Zero(i, 1)) << i;
  ASSERT_OK(RunInline(overlay_->Flush()));
  for (uint64_t i = 0; i < 1000; ++i) ASSERT_OK(Write(20'000 + i)) << i;
  Check();
  Reopen(false);
  Check();
}

TEST_F(FaultsTest, ACloseOnAFullDiskLosesNothing) {
  plan_.SetRoomBytes(2 * kMiB);
  absl::Status status;
  for (uint64_t i = 0; status.ok(); ++i) status = Write(i * 7);
  const absl::Status closed = RunInline(overlay_->Close());
  if (!closed.ok()) {
    EXPECT_THAT(closed, IsCode(absl::StatusCode::kResourceExhausted));
  }
  Reopen(false);
  Check();
}

TEST_F(FaultsTest, AFailedSyncTurnsItReadOnly) {
  ASSERT_OK(Write(1));
  ASSERT_OK(RunInline(overlay_->Flush()));
  ASSERT_OK(Write(2));
  plan_.FailNth(Fault{IoRequest::Op::kSync, "", 1, EIO});
  EXPECT_FALSE(RunInline(overlay_->Flush()).ok());
  // Later syncs would succeed; the kernel has marked the pages clean.
  const absl::Status again = RunInline(overlay_->Flush());
  EXPECT_EQ(StatusErrno(again), EIO);
  EXPECT_THAT(again, SaysThat("read-only"));
  EXPECT_THAT(RunInline(overlay_->Zero(1, 1)), SaysThat("read-only"));
  const Bytes data(kBlockBytes);
  EXPECT_THAT(RunInline(overlay_->Write(9, data)), SaysThat("read-only"));
  EXPECT_FALSE(RunInline(overlay_->Checkpoint()).ok());
  EXPECT_FALSE(RunInline(overlay_->Close()).ok());
  Check();
  Reopen(false);
  Check();
  ASSERT_OK(Write(3));
  EXPECT_OK(RunInline(overlay_->Flush()));
}

TEST_F(FaultsTest, AFailedSyncInACheckpointTurnsItReadOnly) {
  for (uint64_t i = 0; i < 50; ++i) ASSERT_OK(Write(i));
  for (uint64_t nth = 1; nth <= 2; ++nth) {
    plan_.FailNth(Fault{IoRequest::Op::kSync, "", nth, EIO});
    EXPECT_FALSE(RunInline(overlay_->Checkpoint()).ok());
    plan_.ClearFaults();
    EXPECT_FALSE(overlay_->failure().ok());
    EXPECT_FALSE(Write(77).ok());
    Check();
    Reopen(false);
    Check();
    ASSERT_OK(Write(60 + nth));
  }
  ASSERT_OK(RunInline(overlay_->Checkpoint()));
  Reopen(false);
  Check();
}

TEST_F(FaultsTest, ACheckpointWithoutRoomChangesNothing) {
  for (uint64_t i = 0; i < 500; ++i) ASSERT_OK(Write(i * 3));
  ASSERT_OK(RunInline(overlay_->Flush()));
  plan_.SetRoomBytes(0);
  EXPECT_THAT(RunInline(overlay_->Checkpoint()), IsCode(absl::StatusCode::kResourceExhausted));
  EXPECT_OK(overlay_->failure());
  Check();
  plan_.SetRoomBytes(std::nullopt);
  ASSERT_OK(Write(1));
  ASSERT_OK(RunInline(overlay_->Checkpoint()));
  ASSERT_OK(Write(2));
  Reopen(false);
  Check();
}

TEST_F(FaultsTest, AFailedDataWriteIsThatRequestsAlone) {
  ASSERT_OK(Write(1));
  // The first write of a request is its data.
  plan_.FailNth(Fault{IoRequest::Op::kWrite, "", 1, EIO});
  EXPECT_EQ(StatusErrno(Write(2)), EIO);
  ASSERT_OK(Write(3));
  ASSERT_OK(RunInline(overlay_->Flush()));
  Check();
  Reopen(false);
  Check();
}

TEST_F(FaultsTest, AFailedJournalWriteTurnsItReadOnly) {
  ASSERT_OK(Write(1));
  plan_.FailNth(Fault{IoRequest::Op::kWrite, "", 2, EIO});
  EXPECT_EQ(StatusErrno(Write(1)), EIO);
  EXPECT_THAT(Write(3), SaysThat("read-only"));
  Check();
  Reopen(false);
  Check();
}

// A hole in the middle of every kind of failure: each request from the first to the last fails
// once.
TEST_F(FaultsTest, EveryRequestMayFail) {
  constexpr IoRequest::Op kOps[] = {IoRequest::Op::kWrite, IoRequest::Op::kSync,
                                    IoRequest::Op::kAllocate, IoRequest::Op::kPunchHole,
                                    IoRequest::Op::kRead};
  for (const IoRequest::Op op : kOps) {
    for (uint64_t nth = 1; nth < 40; ++nth) {
      plan_.FailNth(Fault{op, "", nth, op == IoRequest::Op::kWrite && nth % 2 == 0 ? ENOSPC : EIO});
      for (uint64_t i = 0; i < 12; ++i) {
        Write(random_() % 64, 1 + random_() % 3).IgnoreError();
        if (i % 5 == 4) RunInline(overlay_->Flush()).IgnoreError();
        if (i % 6 == 5) RunInline(overlay_->Checkpoint()).IgnoreError();
        if (i % 7 == 6) Zero(random_() % 64, 2).IgnoreError();
      }
      RunInline(overlay_->Close()).IgnoreError();
      plan_.ClearFaults();
      // A request that failed may have happened or not; so this looks only at whether the file
      // opens and reads.
      Reopen(false);
      overlay_->VisitRange(0, 64, [&](const Segment& piece) {
        if (piece.kind != Segment::Kind::kData) return;
        Bytes found(BlockOffsetBytes(piece.length));
        EXPECT_OK(RunInline(overlay_->ReadSlots(piece.physical, found)));
      });
      ASSERT_FALSE(HasFailure()) << static_cast<int>(op) << " " << nth;
    }
  }
}

// Giving space back comes after everything else holds.
TEST_F(FaultsTest, AHoleThatCannotBePunchedFailsNothing) {
  for (int i = 0; i < 3; ++i) {
    for (uint64_t block = 0; block < 40; ++block) ASSERT_OK(Write(block));
    ASSERT_OK(RunInline(overlay_->Flush()));
    ASSERT_OK(Zero(20, 20));
    plan_.FailNth(Fault{IoRequest::Op::kPunchHole, "", 1, EIO, UINT64_MAX});
    const uint64_t hits = plan_.hit_count();
    Reopen(true);
    EXPECT_GT(plan_.hit_count(), hits);
    Check();
  }
  for (uint64_t block = 0; block < 40; ++block) ASSERT_OK(Write(block));
  EXPECT_OK(RunInline(overlay_->SealToLayer(kGiB, {}, "test")));
  EXPECT_OK(RunInline(LoadLayerMap(storage_, DataFileName(id_))));
}

// What was not punched is no hole: the next trim finds it.
TEST_F(FaultsTest, AHoleThatCouldNotBePunchedIsPunchedLater) {
  constexpr uint64_t kBlocks = 12'800;  // more freed space than is kept for the next writes
  for (uint64_t block = 0; block < kBlocks; block += 256) ASSERT_OK(Write(block, 256));
  ASSERT_OK(RunInline(overlay_->Flush()));
  ASSERT_OK(Zero(0, kBlocks));
  plan_.FailNth(Fault{IoRequest::Op::kPunchHole, "", 1, EIO, UINT64_MAX});
  for (uint64_t i = 0; i < 20; ++i) {
    ASSERT_OK(Write(kBlocks + i));
    ASSERT_OK(RunInline(overlay_->Flush()));
    loop_.WakeSleepers();
  }
  EXPECT_GE(plan_.hit_count(), 20u);
  EXPECT_GT(*overlay_->file().DiskBytes(), BlockOffsetBytes(kBlocks));
  plan_.ClearFaults();
  ASSERT_OK(Write(kBlocks));
  ASSERT_OK(RunInline(overlay_->Flush()));
  loop_.WakeSleepers();
  EXPECT_LT(*overlay_->file().DiskBytes(), BlockOffsetBytes(kBlocks * 3 / 4));
  Check();
}

TEST_F(FaultsTest, DamagedFilesAreRefusedOrReadRight) {
  for (uint64_t i = 0; i < 30; ++i) ASSERT_OK(Write(i));
  ASSERT_OK(RunInline(overlay_->Close()));
  overlay_.reset();
  const std::string name = DataFileName(id_);
  MemoryStorage::Content& content = *memory_.files().at(name);
  const uint64_t size = content.size_bytes;
  // Cut short anywhere.
  for (uint64_t cut = 0; cut < size; cut += 1 + random_() % 5000) {
    MemoryStorage copy = memory_.Clone();
    TruncateContent(*copy.files().at(name), cut);
    const auto opened = RunInline(Overlay::Open(loop_, copy, id_, OpenMode::kReadWrite, false));
    if (opened.ok()) continue;  // what was cut off held data: reading tells
    EXPECT_THAT(opened, IsCode(absl::StatusCode::kDataLoss));
    EXPECT_THAT(opened, SaysThat(name));
  }
}

// A record that is whole and fits, and says what no data file can hold.
TEST_F(FaultsTest, ARecordThatNamesBlocksBeyondEveryFileIsRefused) {
  overlay_.reset();
  const std::string name = DataFileName(id_);
  auto file = memory_.Open(name, OpenMode::kReadWrite);
  ASSERT_OK(file);
  const auto root = RunInline(ReadSuperblock(**file));
  ASSERT_OK(root);
  JournalRecord record;
  record.order = root->checkpoint_order + 1;
  record.durable_order = record.order;  // a fact, so that its data is not asked
  record.previous_check = root->journal_check;
  record.incarnation = root->incarnation;
  record.start = 5;
  record.blocks = 2;
  record.sums = {1, 2};
  for (const uint64_t physical : {Extent::kPhysicalLimit - 2, Extent::kPhysicalLimit - 1}) {
    record.runs = {{physical, 2}};
    Bytes bytes;
    EncodeRecord(record, root->secret, bytes);
    WriteContent(*memory_.files().at(name), BlockOffsetBytes(root->journal_block), bytes);
    const auto opened = RunInline(Overlay::Open(loop_, memory_, id_, OpenMode::kRead, false));
    if (physical + 2 <= Extent::kPhysicalLimit) {
      EXPECT_OK(opened);
    } else {
      EXPECT_THAT(opened, IsCode(absl::StatusCode::kDataLoss));
    }
  }
}

// A file that was cut off is read, as far as it goes. Who would write to it would have to do with
// terabytes of free space and checksums between its end and what the map names.
TEST_F(FaultsTest, AFileThatLostBlocksIsNotWrittenTo) {
  ASSERT_OK(Write(1));
  JournalRecord record;
  record.start = 0;  // before what is there: the order of the map is not that of the file
  record.blocks = 1;
  record.runs = {{Extent::kPhysicalLimit - 1, 1}};
  record.sums = {1};
  AppendByHand(record);
  const auto writable = RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kReadWrite, false));
  EXPECT_THAT(writable, IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(writable, SaysThat("truncated"));
  auto readable = RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kRead, false));
  ASSERT_OK(readable);
  overlay_ = *std::move(readable);
  Check();
  // Those that were given up are nobody's loss, and no table of checksums reaches them.
  record.type = JournalRecord::Type::kZero;
  record.runs.clear();
  AppendByHand(record);
  Reopen(false);
  ASSERT_OK(Write(2));
  Reopen(true);
  Check();
  EXPECT_LT(*overlay_->file().SizeBytes(), kMiB);
}

// The crash cut the chain off before the record that knows how much of it had been synced. So data
// of it that is bad is damage, and no reason to go back to what was there before.
TEST_F(FaultsTest, WhatALaterRecordKnowsToBeDurableIsAFact) {
  ASSERT_OK(Write(1));
  ASSERT_OK(Write(2));
  ASSERT_OK(RunInline(overlay_->Flush()));
  uint64_t lost = 0;
  overlay_->VisitRange(2, 3, [&](const Segment& piece) { lost = piece.physical; });
  overlay_.reset();
  auto file = memory_.Open(DataFileName(id_), OpenMode::kReadWrite);
  ASSERT_OK(file);
  const auto root = RunInline(ReadSuperblock(**file));
  ASSERT_OK(root);
  OverlayMap map;
  const auto replayed = RunInline(ReplayJournal(**file, *root, false, map));
  ASSERT_OK(replayed);
  ASSERT_EQ(replayed->durable_order, 0u);
  const JournalPosition& end = replayed->position;
  JournalRecord later;
  later.type = JournalRecord::Type::kMark;
  later.order = end.last_order + 2;  // the one before it was lost
  later.durable_order = end.last_order;
  later.incarnation = root->incarnation;
  Bytes bytes(JournalRecord::kHeaderBytes);
  EncodeRecord(later, root->secret, bytes);
  MemoryStorage::Content& content = *memory_.files().at(DataFileName(id_));
  WriteContent(content, BlockOffsetBytes(end.chunk.physical) + end.offset_bytes, bytes);
  WriteContent(content, BlockOffsetBytes(lost), Bytes(1, std::byte{1}));
  model_.erase(2);
  for (int i = 0; i < 2; ++i) {
    Reopen(false);
    Check();
    Segment segment;
    overlay_->VisitRange(2, 3, [&](const Segment& piece) { segment = piece; });
    ASSERT_EQ(segment.kind, Segment::Kind::kData);
    Bytes found(kBlockBytes);
    EXPECT_THAT(RunInline(overlay_->ReadSlots(lost, found)), IsCode(absl::StatusCode::kDataLoss));
    ASSERT_OK(Write(3));
  }
}

// The machine's crash took back that the file had been made longer.
TEST_F(FaultsTest, AChunkBehindTheEndOfTheFileIsNoneYet) {
  ASSERT_OK(Write(1));
  JournalRecord record;
  record.type = JournalRecord::Type::kLink;
  record.chunk = {Extent::kPhysicalLimit - 16, 16};
  AppendByHand(record, /*is_durable=*/false);
  Reopen(false);
  Check();
  ASSERT_OK(Write(2));
  EXPECT_LT(*overlay_->file().SizeBytes(), kMiB);
  Reopen(false);
  Check();
  AppendByHand(record);
  Reopen(false);
  ASSERT_OK(Write(3));
  Reopen(true);
  Check();
  EXPECT_LT(*overlay_->file().SizeBytes(), kMiB);
}

// One more would be an incarnation that cannot be read, and begin anew after that.
TEST_F(FaultsTest, AfterTheLastIncarnationItIsOnlyRead) {
  ASSERT_OK(Write(1));
  ASSERT_OK(RunInline(overlay_->Close()));
  overlay_.reset();
  auto file = memory_.Open(DataFileName(id_), OpenMode::kReadWrite);
  ASSERT_OK(file);
  auto root = RunInline(ReadSuperblock(**file));
  ASSERT_OK(root);
  root->incarnation = Superblock::kIncarnationLimit - 1;
  ASSERT_OK(RunInline(WriteSuperblock(**file, *root)));
  for (int i = 0; i < 2; ++i) {
    Reopen(false);
    EXPECT_THAT(Write(2), IsCode(absl::StatusCode::kFailedPrecondition));
    Check();
  }
}

// The checksum page would be the map: a checkpoint would give the block back twice.
TEST_F(FaultsTest, MetadataInOnePlaceIsRefused) {
  ASSERT_OK(Write(1));
  ASSERT_OK(RunInline(overlay_->Close()));
  overlay_.reset();
  auto file = memory_.Open(DataFileName(id_), OpenMode::kReadWrite);
  ASSERT_OK(file);
  auto root = RunInline(ReadSuperblock(**file));
  ASSERT_OK(root);
  const uint64_t table[] = {root->map.block};
  auto section =
      RunInline(WriteSection(**file, root->sum_pages.block, std::as_bytes(std::span(table)), 1));
  ASSERT_OK(section);
  root->sum_pages = *section;
  ASSERT_OK(RunInline(WriteSuperblock(**file, *root)));
  const auto opened = RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kRead, false));
  EXPECT_THAT(opened, IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(opened, SaysThat("claimed twice"));
}

// A chunk that is full to its end, where no writer leaves it: its link would go over what follows.
TEST_F(FaultsTest, AChunkWithoutRoomForItsLinkIsRefused) {
  const std::string name = DataFileName(id_);
  overlay_.reset();
  auto file = memory_.Open(name, OpenMode::kReadWrite);
  ASSERT_OK(file);
  auto root = RunInline(ReadSuperblock(**file));
  ASSERT_OK(root);
  root->journal_blocks = 1;
  JournalRecord zero;
  zero.type = JournalRecord::Type::kZero;
  zero.start = 100;
  zero.blocks = 1;
  Bytes bytes;
  zero.previous_check = root->journal_check;
  zero.order = root->checkpoint_order;
  zero.incarnation = root->incarnation;
  while (bytes.size() < kBlockBytes) {
    ++zero.order;
    zero.previous_check = EncodeRecord(zero, root->secret, bytes);
  }
  ASSERT_EQ(bytes.size(), kBlockBytes);
  ASSERT_OK(RunInline(WriteSuperblock(**file, *root)));
  WriteContent(*memory_.files().at(name), BlockOffsetBytes(root->journal_block), bytes);
  EXPECT_THAT(RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kReadWrite, false)),
              IsCode(absl::StatusCode::kDataLoss));
}

// Each such chunk would be kept in memory while the chain is read, and there may be one a record.
TEST_F(FaultsTest, AJournalThatComesBackToAChunkIsRefusedAtOnce) {
  auto file = memory_.Open(DataFileName(id_), OpenMode::kRead);
  ASSERT_OK(file);
  const auto root = RunInline(ReadSuperblock(**file));
  ASSERT_OK(root);
  JournalRecord record;
  record.type = JournalRecord::Type::kLink;
  record.chunk = {root->journal_block + 1, root->journal_blocks};
  AppendByHand(record);
  const auto opened = RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kRead, false));
  EXPECT_THAT(opened, IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(opened, SaysThat("where it has been"));
}

TEST_F(FaultsTest, AnotherOverlaysFileIsRefused) {
  ASSERT_OK(RunInline(overlay_->Close()));
  overlay_.reset();
  const Uuid other = Uuid::Random();
  ASSERT_OK(memory_.Rename(DataFileName(id_), DataFileName(other)));
  EXPECT_THAT(RunInline(Overlay::Open(loop_, storage_, other, OpenMode::kRead, false)),
              IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(RunInline(Overlay::Open(loop_, storage_, id_, OpenMode::kRead, false)),
              IsCode(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace cowl
