// What a crash cut off: a tail that recovery gave up never fits on again, and a flush after a
// snapshot covers what came before it.
#include <gtest/gtest.h>

#include <functional>

#include "base/units.h"
#include "format/superblock.h"
#include "io/memory_storage.h"
#include "stack/seeds.h"
#include "stack/stack.h"
#include "support/crash_simulator.h"
#include "support/recording_storage.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBlocks = 32;

Bytes Filled(uint64_t blocks, int value) {
  return Bytes(BlockOffsetBytes(blocks), static_cast<std::byte>(value));
}

bool IsFilled(Stack& stack, uint64_t block, int value) {
  Bytes bytes(kBlockBytes);
  EXPECT_OK(RunInline(stack.device().Read(BlockOffsetBytes(block), bytes)));
  return bytes == Filled(1, value);
}

void Discard(Stack& stack, uint64_t block) {
  EXPECT_OK(RunInline(stack.device().Discard(BlockOffsetBytes(block), kBlockBytes, {})));
}

enum class Loss { kNone, kThis, kThisAndNoMore };

// `after` with some of the file's sectors as they were in `before`: a power cut that lost them.
// `choose` is asked for each that differs, from the start of the file on.
MemoryStorage WithSectorsLost(MemoryStorage& before, const MemoryStorage& after,
                              const std::string& name,
                              const std::function<Loss(uint64_t at, const Bytes& sector)>& choose) {
  MemoryStorage left = after.Clone();
  MemoryStorage::Content& content = *left.files().at(name);
  const MemoryStorage::Content& old_content = *before.files().at(name);
  bool any_lost = false;
  for (uint64_t at = 0; at < content.size_bytes; at += kSectorBytes) {
    Bytes old_sector(kSectorBytes);
    Bytes new_sector(kSectorBytes);
    if (at < old_content.size_bytes) {
      EXPECT_OK(ReadContent(old_content, at, old_sector));
    }
    EXPECT_OK(ReadContent(content, at, new_sector));
    const Loss loss = old_sector == new_sector ? Loss::kNone : choose(at, new_sector);
    if (loss == Loss::kNone) continue;
    WriteContent(content, at, old_sector);
    any_lost = true;
    if (loss == Loss::kThisAndNoMore) break;
  }
  EXPECT_TRUE(any_lost) << "nothing changed";
  return left;
}

// The requests that were lost are made again, one by one, as a client would: their records are the
// same, byte for byte, but for the incarnation. What stands behind them on the disk, from before
// the crash, must not count as their continuation.
TEST(Tail, ThatWasGivenUpNeverFitsOnAgain) {
  MemoryStorage disk;
  InlineLoop loop;
  StackCatalog catalog;
  MemoryStorage flushed;
  {
    Stack stack(loop, disk, StackCatalog{BlockOffsetBytes(kBlocks), {}, {}, {}});
    ASSERT_OK(RunInline(stack.Open()));
    const Bytes ones = Filled(kBlocks, 1);
    ASSERT_OK(RunInline(stack.device().Write(0, ones, {})));
    ASSERT_OK(RunInline(stack.device().Flush()));
    flushed = disk.Clone();
    for (uint64_t block = 0; block < kBlocks; ++block) Discard(stack, block);
    catalog = stack.catalog();
    ASSERT_OK(RunInline(stack.Drop()));
  }
  MemoryStorage crashed = WithSectorsLost(
      flushed, disk, DataFileName(catalog.overlay),
      [](uint64_t, const Bytes&) { return Loss::kThisAndNoMore; });  // one of the journal
  for (uint64_t repeated = 0; repeated < kBlocks; ++repeated) {
    MemoryStorage next_disk = crashed.Clone();
    {
      Stack stack(loop, next_disk, catalog);
      ASSERT_OK(RunInline(stack.Open()));
      ASSERT_TRUE(IsFilled(stack, kBlocks - 1, 1))
          << "the discards were not lost: this tests nothing";
      for (uint64_t block = 0; block < repeated; ++block) Discard(stack, block);
      ASSERT_OK(RunInline(stack.Drop()));
    }
    Stack stack(loop, next_disk, catalog);
    ASSERT_OK(RunInline(stack.Open()));
    for (uint64_t block = 0; block < kBlocks; ++block) {
      EXPECT_TRUE(IsFilled(stack, block, block < repeated ? 0 : 1))
          << "block " << block << " after " << repeated << " repeated";
    }
    ASSERT_OK(RunInline(stack.Drop()));
  }
}

// A record whose data was lost is given up. Then the same data, of another request, reaches the
// same place, and a second crash takes that request's record, which leaves the old one standing.
TEST(Tail, ThatWasGivenUpStaysSoWhenItsDataAppears) {
  MemoryStorage disk;
  InlineLoop loop;
  StackCatalog catalog;
  const Bytes twos = Filled(1, 2);
  const auto write_twos = [&](Stack& stack, uint64_t block) {
    ASSERT_OK(RunInline(stack.device().Write(BlockOffsetBytes(block), twos, {})));
  };
  const auto holds_twos = [](uint64_t, const Bytes& sector) {
    return sector == Bytes(kSectorBytes, std::byte{2}) ? Loss::kThis : Loss::kNone;
  };
  const auto is_of_the_journal = [&](uint64_t at, const Bytes& sector) {
    const bool is_superblock = at < BlockOffsetBytes(Superblock::kFirstFreeBlock);
    const bool is_data = holds_twos(at, sector) == Loss::kThis;
    return is_superblock || is_data ? Loss::kNone : Loss::kThis;
  };
  {
    Stack stack(loop, disk, StackCatalog{BlockOffsetBytes(kBlocks), {}, {}, {}});
    ASSERT_OK(RunInline(stack.Open()));
    const Bytes ones = Filled(kBlocks, 1);
    ASSERT_OK(RunInline(stack.device().Write(0, ones, {})));
    ASSERT_OK(RunInline(stack.device().Flush()));
    catalog = stack.catalog();
    MemoryStorage flushed = disk.Clone();
    write_twos(stack, 7);
    ASSERT_OK(RunInline(stack.Drop()));
    disk = WithSectorsLost(flushed, disk, DataFileName(catalog.overlay), holds_twos);
  }
  {
    MemoryStorage crashed = disk.Clone();
    Stack stack(loop, disk, catalog);
    ASSERT_OK(RunInline(stack.Open()));
    ASSERT_TRUE(IsFilled(stack, 7, 1)) << "the data was not lost: this tests nothing";
    write_twos(stack, 9);
    ASSERT_OK(RunInline(stack.Drop()));
    disk = WithSectorsLost(crashed, disk, DataFileName(catalog.overlay), is_of_the_journal);
  }
  Stack stack(loop, disk, catalog);
  ASSERT_OK(RunInline(stack.Open()));
  EXPECT_TRUE(IsFilled(stack, 7, 1)) << "given up, and there again";
  EXPECT_TRUE(IsFilled(stack, 9, 1)) << "the crash took it";
  ASSERT_OK(RunInline(stack.Drop()));
}

// Requests go to the successor, the old overlay is not sealed yet. Whatever makes the successor
// durable, the old one is durable first.
void CutAfter(const std::function<absl::Status(CowDevice&)>& make_durable) {
  RecordingStorage disk;
  InlineLoop loop;
  Stack stack(loop, disk, StackCatalog{BlockOffsetBytes(kBlocks), {}, {}, {}});
  ASSERT_OK(RunInline(stack.Open()));
  const Bytes old_bytes = Filled(1, 1);
  const Bytes new_bytes = Filled(1, 2);
  ASSERT_OK(RunInline(stack.device().Write(0, old_bytes, {})));
  ASSERT_OK(RunInline(stack.BeginSnapshot()));
  ASSERT_OK(RunInline(stack.device().Write(kBlockBytes, new_bytes, {})));
  ASSERT_OK(make_durable(stack.device()));
  const size_t position = disk.position();
  const StackCatalog catalog = stack.catalog();
  ASSERT_OK(RunInline(stack.FinishSnapshot()));
  ASSERT_OK(RunInline(stack.Close()));

  MemoryStorage left = CrashSimulator(disk.log()).Build(position, CrashMode::kDropUnsynced, 1);
  Stack recovered(loop, left, catalog);
  ASSERT_OK(RunInline(recovered.Open()));
  EXPECT_EQ(recovered.recovery(), "rolled forward");
  EXPECT_TRUE(IsFilled(recovered, 0, 1));
  EXPECT_TRUE(IsFilled(recovered, 1, 2));
  ASSERT_OK(RunInline(recovered.Close()));
}

TEST(Succession, AFlushCoversWhatCameBeforeTheSnapshot) {
  CutAfter([](CowDevice& device) { return RunInline(device.Flush()); });
}

TEST(Succession, ACheckpointOfTheSuccessorDoesToo) {
  CutAfter([](CowDevice& device) { return RunInline(device.overlay()->Checkpoint()); });
}

}  // namespace
}  // namespace cowl
