// One overlay: written, read, opened again with and without having been closed, on memory and on
// real files.
#include "overlay/overlay.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <random>

#include "stack/seeds.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;

Task<absl::Status> Destroy(std::unique_ptr<Overlay> overlay, bool close) {
  absl::Status status;
  if (close) {
    status = co_await overlay->Close();
  } else {
    co_await overlay->EndBackground();
  }
  overlay.reset();
  co_return status;
}

// Reads one block by the map, zeros where the overlay has nothing. `found` tells what the overlay
// has.
Task<absl::Status> ReadBlock(Overlay* overlay, uint64_t block, Bytes* into, Segment::Kind* found) {
  const uint64_t ticket = overlay->EnterRead();
  Segment segment;
  overlay->VisitRange(block, block + 1, [&](const Segment& piece) { segment = piece; });
  *found = segment.kind;
  into->assign(kBlockBytes, std::byte{0});
  absl::Status status;
  if (segment.kind == Segment::Kind::kData)
    status = co_await overlay->ReadSlots(segment.physical, *into);
  overlay->LeaveRead(ticket);
  co_return status;
}

class OverlayTest : public IoRigTest {
 protected:
  void SetUp() override {
    if (!rig().directory().empty())
      std::filesystem::create_directory(rig().directory() + "/layers");
    auto made = Run(Overlay::Create(rig().loop(), storage(), {id_, {}, kGiB}));
    ASSERT_OK(made);
    overlay_ = *std::move(made);
  }
  void TearDown() override {
    if (overlay_) {
      EXPECT_OK(Run(Destroy(std::move(overlay_), true)));
    }
  }
  void Write(uint64_t block, const Bytes& data) {
    ASSERT_OK(Run(overlay_->Write(block, data)));
    for (size_t i = 0; i * kBlockBytes < data.size(); ++i) {
      const auto from = data.begin() + static_cast<ptrdiff_t>(i * kBlockBytes);
      model_[block + i] = Bytes(from, from + kBlockBytes);
    }
  }
  void Zero(uint64_t block, uint64_t blocks) {
    ASSERT_OK(Run(overlay_->Zero(block, blocks)));
    for (uint64_t i = 0; i < blocks; ++i) model_[block + i] = Bytes();
  }
  void Reopen(bool close) {
    ASSERT_OK(Run(Destroy(std::move(overlay_), close)));
    auto opened = Run(Overlay::Open(rig().loop(), storage(), id_, OpenMode::kReadWrite, false));
    ASSERT_OK(opened);
    overlay_ = *std::move(opened);
  }
  void Check() {
    uint64_t stored = 0;
    for (const auto& [block, expected] : model_) {
      Bytes found;
      Segment::Kind kind;
      ASSERT_OK(Run(ReadBlock(overlay_.get(), block, &found, &kind)));
      ASSERT_EQ(kind, expected.empty() ? Segment::Kind::kZero : Segment::Kind::kData) << block;
      if (!expected.empty()) {
        ASSERT_TRUE(found == expected) << block;
      }
      stored += !expected.empty();
    }
    EXPECT_EQ(overlay_->stored_blocks(), stored);
  }
  Bytes Random(uint64_t blocks) { return RandomBytes(random_, blocks * kBlockBytes); }

  const Uuid id_ = Uuid::Random();
  std::unique_ptr<Overlay> overlay_;
  std::map<uint64_t, Bytes> model_;  // empty: zero
  std::mt19937_64 random_{7};
};

// Else a server that is killed before each checkpoint replays more and more.
TEST_P(OverlayTest, AJournalThatGrewInEarlierOpeningsIsCheckpointed) {
  if (!rig().directory().empty()) return;  // nothing of files is in it, and it takes long there
  constexpr int kRecords = 40'000;         // more than half of what calls for a checkpoint
  for (int i = 0; i < kRecords; ++i) ASSERT_OK(Run(overlay_->Zero(1, 1)));
  Reopen(/*close=*/false);
  ASSERT_FALSE(overlay_->facts().has_checkpoint);
  for (int i = 0; i < kRecords; ++i) ASSERT_OK(Run(overlay_->Zero(1, 1)));
  Reopen(/*close=*/false);
  EXPECT_TRUE(overlay_->facts().has_checkpoint);
}

TEST_P(OverlayTest, KeepsWhatWasWrittenThroughEveryKindOfReopening) {
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 40; ++i) Write(random_() % 500, Random(1 + random_() % 8));
    Zero(random_() % 500, 1 + random_() % 60);
    Check();
    if (round % 2 == 0) {
      ASSERT_OK(Run(overlay_->Flush()));
    }
    Reopen(round % 3 == 0);
    Check();
  }
}

// Far more records than the first chunks hold: links, a growing journal, checkpoints by themselves.
TEST_P(OverlayTest, AJournalOfManyChunks) {
  for (int i = 0; i < 3000; ++i) Write(random_() % 300, Random(1 + random_() % 2));
  for (int i = 0; i < 1500; ++i) Zero(1000 + 2 * static_cast<uint64_t>(i), 1);
  Reopen(false);
  Check();
  ASSERT_OK(Run(overlay_->Checkpoint()));
  Check();
  Write(5, Random(3));
  Reopen(false);
  Check();
  Reopen(true);
  Check();
}

TEST_P(OverlayTest, TheLargestRequest) {
  Write(100, Random(JournalRecord::kBlocksMax));
  ASSERT_OK(Run(overlay_->Zero(0, Extent::kStartLimit)));
  model_.clear();
  EXPECT_EQ(overlay_->stored_blocks(), 0u);
  Write(Extent::kStartLimit - 1, Random(1));
  Check();
  Reopen(true);
  Check();
}

// Property 5: what is rewritten in place takes no more space.
TEST_P(OverlayTest, RewritingTakesNoMoreSpace) {
  constexpr uint64_t kBlocks = 2048;
  const auto file_blocks = [&] { return BlocksCeil(*overlay_->file().SizeBytes()); };
  for (int round = 0; round < 10; ++round) {
    for (uint64_t block = 0; block < kBlocks; block += 32) {
      Write(block, Random(32));
      if (block % 256 == 0) {
        ASSERT_OK(Run(overlay_->Flush()));
      }
    }
  }
  // What one epoch pins, twice, and the journal with its checkpoints.
  EXPECT_LE(file_blocks(), kBlocks + 2 * 256 + 600);
  Check();
  Reopen(false);
  for (uint64_t block = 0; block < kBlocks; block += 32) {
    Write(block, Random(32));
    if (block % 256 == 0) {
      ASSERT_OK(Run(overlay_->Flush()));
    }
  }
  EXPECT_LE(file_blocks(), kBlocks + 2 * 256 + 600);
  Check();
}

TEST_P(OverlayTest, BecomesALayer) {
  Write(3, Random(5));
  Zero(5, 1);
  ASSERT_OK(Run(overlay_->SealToLayer(kGiB, {}, "test")));
  Check();  // it still reads
  ASSERT_OK(Run(Destroy(std::move(overlay_), false)));
  auto layer = Run(LoadLayerMap(storage(), DataFileName(id_)));
  ASSERT_OK(layer);
  EXPECT_EQ((*layer)->superblock.stored_blocks, 4u);
  EXPECT_EQ((*layer)->superblock.created_by, "test");
  EXPECT_EQ((*layer)->map.extents.DataBlocks(), 4u);
  EXPECT_THAT(Run(Overlay::Open(rig().loop(), storage(), id_, OpenMode::kRead, false)),
              IsCode(absl::StatusCode::kDataLoss));
}

TEST_P(OverlayTest, OpeningForReadingWritesNothing) {
  Write(3, Random(5));
  ASSERT_OK(Run(Destroy(std::move(overlay_), false)));
  const std::string name = DataFileName(id_);
  const auto bytes_now = [&] {
    auto file = storage().Open(name, OpenMode::kRead);
    Bytes bytes(*(*file)->SizeBytes());
    struct Body {
      static Task<absl::Status> ReadIt(File* from, Bytes* into) {
        co_return co_await from->Read(0, *into);
      }
    };
    EXPECT_OK(Run(Body::ReadIt(file->get(), &bytes)));
    return bytes;
  };
  const Bytes before = bytes_now();
  auto opened = Run(Overlay::Open(rig().loop(), storage(), id_, OpenMode::kRead, false));
  ASSERT_OK(opened);
  EXPECT_EQ((*opened)->stored_blocks(), 5u);
  ASSERT_OK(Run(Destroy(*std::move(opened), true)));
  EXPECT_TRUE(bytes_now() == before);
}

// The map's levels (recent, frozen, base) agree with one another whatever order they come in.
TEST(OverlayMap, AgreesWithAnArray) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 50; ++round) {
    OverlayMap map;
    std::vector<Segment> cells(300);
    uint64_t next_slot = 2;
    for (int step = 0; step < 200; ++step) {
      JournalRecord record;
      record.start = random() % 290;
      record.blocks = 1 + random() % 10;
      std::vector<SlotRun> replaced;
      uint64_t expected_replaced = 0;
      for (uint64_t i = 0; i < record.blocks; ++i)
        expected_replaced += cells[record.start + i].kind == Segment::Kind::kData;
      if (random() % 3 == 0) {
        record.type = JournalRecord::Type::kZero;
        for (uint64_t i = 0; i < record.blocks; ++i)
          cells[record.start + i] = {0, 1, Segment::Kind::kZero};
      } else {
        record.type = JournalRecord::Type::kWrite;
        record.runs = {{next_slot, record.blocks}};
        for (uint64_t i = 0; i < record.blocks; ++i) {
          record.sums.push_back(random());
          cells[record.start + i] = {0, 1, Segment::Kind::kData, 0, next_slot + i};
        }
        next_slot += record.blocks;
      }
      map.Apply(record, &replaced);
      uint64_t count = 0;
      for (const SlotRun& run : replaced) count += run.blocks;
      ASSERT_EQ(count, expected_replaced);
      for (size_t i = 0; i < record.sums.size(); ++i)
        ASSERT_EQ(map.RecentSum(record.runs[0].physical + i), record.sums[i]);
      if (random() % 12 == 0) {
        const auto frozen = map.Freeze();
        if (random() % 2 == 0)
          map.Install(std::make_shared<const ExtentArray>(MergeRanges(frozen->runs, *map.base())));
      }
      uint64_t stored = 0;
      map.VisitRange(0, 300, [&](const Segment& piece) {
        for (uint64_t i = 0; i < piece.length; ++i) {
          const Segment& cell = cells[piece.start + i];
          ASSERT_EQ(piece.kind, cell.kind) << piece.start + i;
          if (cell.kind == Segment::Kind::kData) {
            ASSERT_EQ(piece.physical + i, cell.physical);
          }
          stored += cell.kind == Segment::Kind::kData;
        }
      });
      ASSERT_EQ(map.stored_blocks(), stored);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllStorages, OverlayTest, testing::ValuesIn(AllRigs()), RigName);

}  // namespace
}  // namespace cowl
