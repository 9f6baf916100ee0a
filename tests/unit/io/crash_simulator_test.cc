// The crash simulator: every state it builds is one the fault model allows, and it does build the
// nasty ones.
#include "support/crash_simulator.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <set>

#include "base/bytes.h"
#include "base/units.h"
#include "io/loop.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::Each;
using testing::ElementsAre;
using testing::IsSubsetOf;
using testing::Not;
using testing::UnorderedElementsAre;

constexpr uint64_t kSeeds = 300;

// A file's content as text: a character a sector (its first byte), '.' for zeros, and a digit pair
// for a ragged end.
std::string Shape(MemoryStorage& storage, const std::string& name) {
  const auto found = storage.files().find(name);
  if (found == storage.files().end()) return "(none)";
  std::string shape;
  const MemoryStorage::Content& content = *found->second;
  for (uint64_t at = 0; at < content.size_bytes; at += kSectorBytes) {
    std::vector<std::byte> sector(std::min<uint64_t>(kSectorBytes, content.size_bytes - at));
    EXPECT_OK(ReadContent(content, at, sector));
    EXPECT_TRUE(std::all_of(sector.begin(), sector.end(), [&](std::byte b) {
      return b == sector[0];
    })) << "torn sector";
    shape += sector[0] == std::byte{0} ? '.' : static_cast<char>(sector[0]);
  }
  return shape;
}

class CrashSimulatorTest : public testing::Test {
 protected:
  static Task<absl::Status> Await(File::Awaiter* awaiter) { co_return co_await *awaiter; }
  absl::Status Do(File::Awaiter awaiter) { return RunInline(Await(&awaiter)); }
  // Fills `count` sectors from the sector `first` on.
  void Fill(File& file, uint64_t first, uint64_t count, char with) {
    const std::string text(count * kSectorBytes, with);
    EXPECT_OK(Do(file.Write(first * kSectorBytes, AsBytes(text))));
  }
  void Sync(File& file) { EXPECT_OK(Do(file.Sync())); }
  std::unique_ptr<File> Create(const std::string& name) {
    return *disk_.Open(name, OpenMode::kCreate);
  }
  // A file that is there for sure, with its content.
  std::unique_ptr<File> Settled(const std::string& name, uint64_t sectors, char with) {
    auto file = Create(name);
    Fill(*file, 0, sectors, with);
    Sync(*file);
    return file;
  }
  std::string ShapeAt(size_t position, CrashMode mode, uint64_t seed = 0,
                      const std::string& name = "f") {
    if (simulator_ == nullptr) simulator_ = std::make_unique<CrashSimulator>(disk_.log());
    MemoryStorage storage = simulator_->Build(position, mode, seed);
    return Shape(storage, name);
  }
  std::set<std::string> ShapesAt(size_t position, CrashMode mode, const std::string& name = "f") {
    std::set<std::string> shapes;
    for (uint64_t seed = 0; seed < kSeeds; ++seed)
      shapes.insert(ShapeAt(position, mode, seed, name));
    return shapes;
  }
  std::set<std::string> Shapes(CrashMode mode) { return ShapesAt(disk_.position(), mode); }

  RecordingStorage disk_;
  std::unique_ptr<CrashSimulator> simulator_;
};

TEST_F(CrashSimulatorTest, UnsyncedWritesMayGoAndSyncedOnesStay) {
  const auto file = Settled("f", 3, 'a');
  Fill(*file, 1, 1, 'b');
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kKeepAll), "aba");
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced), "aaa");
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("aaa", "aba"));
  Sync(*file);
  for (const CrashMode mode : {CrashMode::kKeepAll, CrashMode::kTorn, CrashMode::kDropUnsynced,
                               CrashMode::kPrefix, CrashMode::kRandom}) {
    EXPECT_THAT(Shapes(mode), ElementsAre("aba")) << CrashModeName(mode);
  }
}

TEST_F(CrashSimulatorTest, SectorsAreLostAndKeptIndependently) {
  const auto file = Settled("f", 2, 'a');
  Fill(*file, 0, 2, 'b');
  Fill(*file, 0, 2, 'c');
  EXPECT_THAT(Shapes(CrashMode::kRandom),
              UnorderedElementsAre("aa", "ab", "ac", "ba", "bb", "bc", "ca", "cb", "cc"));
}

TEST_F(CrashSimulatorTest, APrefixKeepsTheOrderOfWritesOfAllFiles) {
  const auto file = Settled("f", 2, 'a');
  Fill(*file, 0, 1, 'b');
  Fill(*file, 1, 1, 'c');
  Fill(*file, 0, 1, 'd');
  EXPECT_THAT(Shapes(CrashMode::kPrefix), UnorderedElementsAre("aa", "ba", "bc", "dc"));
}

TEST_F(CrashSimulatorTest, AWriteCutInTheMiddleIsTorn) {
  const auto file = Settled("f", 2, 'a');
  const size_t before = disk_.position();
  Fill(*file, 0, 2, 'b');
  EXPECT_EQ(ShapeAt(before + 1, CrashMode::kKeepAll), "aa");
  EXPECT_THAT(ShapesAt(before + 1, CrashMode::kTorn), UnorderedElementsAre("aa", "ab", "ba", "bb"));
  EXPECT_THAT(ShapesAt(before + 2, CrashMode::kTorn), ElementsAre("bb"));
}

TEST_F(CrashSimulatorTest, ASyncUnderWayCoversNothing) {
  const auto file = Settled("f", 1, 'a');
  Fill(*file, 0, 1, 'b');
  Sync(*file);
  EXPECT_EQ(ShapeAt(disk_.position() - 1, CrashMode::kDropUnsynced), "a");
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced), "b");
}

Task<void> SyncAndNote(File* file, absl::Status* status) { *status = co_await file->Sync(); }

TEST_F(CrashSimulatorTest, ASyncCoversOnlyWhatWasDoneBeforeItBegan) {
  const auto file = Settled("f", 2, 'a');
  Fill(*file, 0, 1, 'b');
  disk_.HoldSyncs(true);
  absl::Status status = Internal("not yet");
  StartDetached(SyncAndNote(file.get(), &status));
  Fill(*file, 1, 1, 'c');
  Fill(*file, 0, 1, 'd');
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced), "aa");
  ASSERT_EQ(disk_.held().size(), 1u);
  EXPECT_FALSE(status.ok());
  disk_.CompleteOldest();
  EXPECT_OK(status);
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced), "ba");
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("ba", "bc", "da", "dc"));
}

TEST_F(CrashSimulatorTest, AFailedSyncMakesItsWritesUnsureForEver) {
  const auto file = Settled("f", 2, 'a');
  Fill(*file, 0, 2, 'b');
  disk_.FailNthSync(1, EIO);
  EXPECT_EQ(StatusErrno(Do(file->Sync())), EIO);
  Sync(*file);
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("aa", "ab", "ba", "bb"));
  Fill(*file, 0, 1, 'c');
  Sync(*file);
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("ca", "cb"))
      << "what was written again is sure";
}

Task<void> WriteAndNote(File* file, uint64_t sector, char with, absl::Status* status) {
  const std::string text(kSectorBytes, with);
  *status = co_await file->Write(sector * kSectorBytes, AsBytes(text));
}

TEST_F(CrashSimulatorTest, HeldWritesLandInAnyOrder) {
  const auto file = Settled("f", 2, 'a');
  disk_.HoldChanges(true);
  absl::Status first = Internal("not yet"), second = first;
  StartDetached(WriteAndNote(file.get(), 0, 'b', &first));
  StartDetached(WriteAndNote(file.get(), 1, 'c', &second));
  ASSERT_EQ(disk_.held().size(), 2u);
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kKeepAll), "aa");
  disk_.Complete(disk_.held()[1].id);
  EXPECT_OK(second);
  EXPECT_FALSE(first.ok());
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kKeepAll), "ac");
  EXPECT_THAT(Shapes(CrashMode::kTorn), UnorderedElementsAre("ac", "bc"));
  Sync(*file);  // the first write is still under way: not covered
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced), "ac");
  std::mt19937_64 random(1);
  disk_.CompleteAny(random);
  EXPECT_OK(first);
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("ac", "bc"));
}

TEST_F(CrashSimulatorTest, SizesComeInOrderAndWhatLacksDataIsZeros) {
  const auto file = Settled("f", 1, 'a');
  Fill(*file, 1, 1, 'b');
  EXPECT_OK(Do(file->Allocate(0, 4 * kSectorBytes)));
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kKeepAll), "ab..");
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("a", "ab", "a.", "ab..", "a..."));
}

TEST_F(CrashSimulatorTest, ATruncationNeverBringsOldBytesBackIntoALaterSize) {
  const auto file = Settled("f", 4, 'a');
  EXPECT_OK(Do(file->Truncate(kSectorBytes)));
  Fill(*file, 2, 1, 'b');
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kKeepAll), "a.b");
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("aaaa", "aaba", "a", "a.b", "a.."));
}

TEST_F(CrashSimulatorTest, APunchMayHaveHappenedOrNot) {
  const auto file = Settled("f", 3, 'a');
  EXPECT_OK(Do(file->PunchHole(kSectorBytes, kSectorBytes)));
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("aaa", "a.a"));
  Sync(*file);
  EXPECT_THAT(Shapes(CrashMode::kRandom), ElementsAre("a.a"));
}

TEST_F(CrashSimulatorTest, ANameIsSureAfterItsFoldersSyncOrTheFiles) {
  const auto one = Create("d/one");
  const auto two = Create("d/two");
  EXPECT_THAT(ShapesAt(disk_.position(), CrashMode::kRandom, "d/one"),
              UnorderedElementsAre("(none)", ""));
  Sync(*one);
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced, 0, "d/one"), "");
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced, 0, "d/two"), "(none)");
  EXPECT_OK(disk_.SyncDirectory("elsewhere"));
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced, 0, "d/two"), "(none)");
  EXPECT_OK(disk_.SyncDirectory("d"));
  EXPECT_EQ(ShapeAt(disk_.position(), CrashMode::kDropUnsynced, 0, "d/two"), "");
}

TEST_F(CrashSimulatorTest, ARenameIsDoneWholeOrNotAtAll) {
  const auto old_file = Settled("f", 1, 'o');
  const auto new_file = Settled("f.new", 1, 'n');
  EXPECT_OK(disk_.SyncDirectory(""));
  EXPECT_OK(disk_.Rename("f.new", "f"));
  std::set<std::string> seen;
  CrashSimulator simulator(disk_.log());
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryStorage storage = simulator.Build(disk_.position(), CrashMode::kRandom, seed);
    seen.insert(Shape(storage, "f") + Shape(storage, "f.new"));
  }
  EXPECT_THAT(seen, UnorderedElementsAre("on", "n(none)"));
  EXPECT_OK(disk_.SyncDirectory(""));
  EXPECT_THAT(Shapes(CrashMode::kRandom), ElementsAre("n"));
}

TEST_F(CrashSimulatorTest, ARemovedFileMayComeBackWithItsBytes) {
  const auto file = Settled("f", 2, 'a');
  EXPECT_OK(disk_.Remove("f"));
  EXPECT_THAT(Shapes(CrashMode::kRandom), UnorderedElementsAre("aa", "(none)"));
  EXPECT_OK(disk_.SyncDirectory(""));
  EXPECT_THAT(Shapes(CrashMode::kRandom), ElementsAre("(none)"));
}

TEST_F(CrashSimulatorTest, ARecordingMayBeginOnAnEarlierCrash) {
  const auto file = Settled("f", 1, 'a');
  Fill(*file, 0, 1, 'b');
  CrashSimulator simulator(disk_.log());
  MemoryStorage crashed = simulator.Build(disk_.position(), CrashMode::kKeepAll, 0);
  RecordingStorage second(crashed);
  const auto again = *second.Open("f", OpenMode::kReadWrite);
  Fill(*again, 0, 1, 'c');
  CrashSimulator second_simulator(second.log());
  MemoryStorage dropped = second_simulator.Build(second.position(), CrashMode::kDropUnsynced, 0);
  EXPECT_EQ(Shape(dropped, "f"), "b");
  EXPECT_EQ(Shape(crashed, "f"), "b") << "the recording must not write into what it began with";
}

TEST_F(CrashSimulatorTest, MarkersGivePositions) {
  const auto file = Settled("f", 1, 'a');
  disk_.Mark("answered 1");
  Fill(*file, 0, 1, 'b');
  EXPECT_EQ(ShapeAt(disk_.log().PositionAfter("answered 1"), CrashMode::kKeepAll), "a");
  CrashSimulator simulator(disk_.log());
  EXPECT_THAT(simulator.Describe(disk_.position()),
              AllOf(testing::HasSubstr("write file 0"), testing::HasSubstr("answered 1")));
}

// A random stream of everything, and a second, much simpler reading of the fault model to hold the
// states against.
class RandomStream : public CrashSimulatorTest, public testing::WithParamInterface<uint64_t> {
 protected:
  static constexpr uint64_t kFileSectors = 24;
  struct Moment {
    size_t position;
    std::string shape;  // of the file, all of it in the cache
  };

  void Step(std::mt19937_64& random, File& file) {
    const uint64_t first = random() % kFileSectors;
    const uint64_t count = 1 + random() % 6;
    switch (random() % 12) {
      case 0:
        Sync(file);
        synced_ = moments_.size() - 1;
        break;
      case 1:
        EXPECT_OK(Do(file.PunchHole(first * kSectorBytes, count * kSectorBytes)));
        break;
      case 2:
        EXPECT_OK(Do(file.Truncate(first * kSectorBytes)));
        break;
      case 3:
        EXPECT_OK(Do(file.Allocate(first * kSectorBytes, count * kSectorBytes)));
        break;
      default:
        Fill(file, first, count, static_cast<char>('a' + random() % 26));
        break;
    }
    moments_.push_back({disk_.position(), Shape(disk_.live(), "f")});
  }

  void Check(const std::string& shape, CrashMode mode, uint64_t seed) {
    SCOPED_TRACE(testing::Message() << CrashModeName(mode) << " seed " << seed << ": " << shape);
    if (mode == CrashMode::kKeepAll) {
      EXPECT_EQ(shape, moments_.back().shape);
    } else if (mode == CrashMode::kDropUnsynced) {
      EXPECT_EQ(shape, moments_[synced_].shape);
    }
    bool size_is_known = false;
    for (size_t i = synced_; i < moments_.size(); ++i)
      size_is_known |= moments_[i].shape.size() == shape.size();
    // Sizes are those the file had, or a maximum over some of its changes: at most the largest.
    size_t largest = 0;
    for (size_t i = synced_; i < moments_.size(); ++i)
      largest = std::max(largest, moments_[i].shape.size());
    EXPECT_LE(shape.size(), largest);
    for (size_t at = 0; at < shape.size(); ++at) {
      bool is_legal = shape[at] == '.';
      for (size_t i = synced_; i < moments_.size() && !is_legal; ++i) {
        is_legal = at < moments_[i].shape.size() && moments_[i].shape[at] == shape[at];
      }
      EXPECT_TRUE(is_legal) << "sector " << at;
    }
    if (size_is_known) ++known_sizes_;
  }

  std::vector<Moment> moments_;
  size_t synced_ = 0;  // the last moment whose changes a sync covers
  int known_sizes_ = 0;
};

TEST_P(RandomStream, EveryStateIsLegal) {
  std::mt19937_64 random(GetParam());
  const auto file = Settled("f", kFileSectors, '0');
  moments_.push_back({disk_.position(), Shape(disk_.live(), "f")});
  for (int step = 0; step < 120; ++step) {
    Step(random, *file);
    for (const CrashMode mode :
         {CrashMode::kKeepAll, CrashMode::kTorn, CrashMode::kDropUnsynced, CrashMode::kPrefix}) {
      Check(ShapeAt(disk_.position(), mode, step), mode, step);
    }
    for (uint64_t seed = 0; seed < 10; ++seed) {
      Check(ShapeAt(disk_.position(), CrashMode::kRandom, seed), CrashMode::kRandom, seed);
    }
    if (HasFailure())
      FAIL() << "stream " << GetParam() << " step " << step << "\n"
             << simulator_->Describe(disk_.position());
  }
  EXPECT_GT(known_sizes_, 1000);
}

TEST_P(RandomStream, TheSameSeedMakesTheSameState) {
  std::mt19937_64 random(GetParam());
  const auto file = Settled("f", kFileSectors, '0');
  moments_.push_back({disk_.position(), ""});
  for (int step = 0; step < 60; ++step) Step(random, *file);
  for (const size_t position : CrashSimulator::PickPositions(0, disk_.position(), 40, GetParam())) {
    for (const CrashMode mode : {CrashMode::kTorn, CrashMode::kPrefix, CrashMode::kRandom}) {
      CrashSimulator fresh(disk_.log());
      MemoryStorage storage = fresh.Build(position, mode, 7);
      EXPECT_EQ(ShapeAt(position, mode, 7), Shape(storage, "f"));
    }
  }
  // And downwards again, where the simulator starts over.
  EXPECT_EQ(ShapeAt(5, CrashMode::kRandom, 7), [&] {
    CrashSimulator fresh(disk_.log());
    MemoryStorage storage = fresh.Build(5, CrashMode::kRandom, 7);
    return Shape(storage, "f");
  }());
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomStream, testing::Range<uint64_t>(1, 6));

// The harness must bite: a record of two sectors without a check of its own, synced only
// afterwards, is seen torn.
TEST_F(CrashSimulatorTest, CatchesARecordThatTrustsTwoSectorsToGoTogether) {
  const auto file = Settled("f", 2, 'a');
  const size_t begin = disk_.position();
  for (char with = 'b'; with < 'g'; ++with) {
    Fill(*file, 0, 2, with);
    Sync(*file);
  }
  int torn = 0;
  for (const size_t position : CrashSimulator::PickPositions(begin, disk_.position(), 1000, 1)) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const std::string shape = ShapeAt(position, CrashMode::kRandom, seed);
      torn += shape[0] != shape[1];
    }
  }
  EXPECT_GT(torn, 20);
}

TEST_F(CrashSimulatorTest, ThousandsOfStatesAMinute) {
  std::mt19937_64 random(1);
  const auto file = Settled("f", 8 * 512, 'a');  // 2 MiB
  for (int i = 0; i < 3000; ++i) {
    Fill(*file, random() % 4000, 8, static_cast<char>('a' + i % 26));
    if (i % 40 == 0) Sync(*file);
  }
  CrashSimulator simulator(disk_.log());
  const auto began = std::chrono::steady_clock::now();
  uint64_t states = 0;
  for (const size_t position : CrashSimulator::PickPositions(0, disk_.position(), 200, 1)) {
    simulator.Build(position, CrashMode::kRandom, 1);
    ++states;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  std::printf("%.0f states a minute\n", 60.0 * static_cast<double>(states) / took.count());
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(took.count(), 12.0) << "fewer than a thousand a minute";
#endif
}

}  // namespace
}  // namespace cowl
