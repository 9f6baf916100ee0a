// One suite for every storage: what file.h promises, over memory and over real files on each loop.
#include "io/file.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/bytes.h"
#include "base/units.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::ElementsAre;

std::vector<std::byte> Pattern(size_t bytes, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> pattern(bytes + sizeof(uint64_t));
  for (size_t at = 0; at < bytes; at += sizeof(uint64_t))
    StoreLittle<uint64_t>(pattern.data() + at, random());
  pattern.resize(bytes);
  return pattern;
}

const std::vector<std::byte> kZeros(1 << 20);

class FileTest : public IoRigTest {
 protected:
  File& file() {
    if (file_ == nullptr) file_ = Create("file");
    return *file_;
  }
  std::unique_ptr<File> Create(const std::string& name) {
    auto opened = storage().Open(name, OpenMode::kCreate);
    EXPECT_OK(opened);
    return *std::move(opened);
  }
  static Task<absl::Status> Await(File::Awaiter* awaiter) { co_return co_await *awaiter; }
  absl::Status Do(File::Awaiter awaiter) { return Run(Await(&awaiter)); }
  std::vector<std::byte> ReadAll(File& file) {
    std::vector<std::byte> bytes(*file.SizeBytes());
    EXPECT_OK(Do(file.Read(0, bytes)));
    return bytes;
  }
  bool IsMemory() const { return GetParam().is_memory; }

 private:
  std::unique_ptr<File> file_;
};

TEST_P(FileTest, ReadsWhatWasWrittenAtAnyOffset) {
  const auto written = Pattern(3 * kBlockBytes + 17, 1);
  EXPECT_OK(Do(file().Write(1001, written)));
  std::vector<std::byte> got(written.size());
  EXPECT_OK(Do(file().Read(1001, got)));
  EXPECT_EQ(got, written);
  EXPECT_EQ(*file().SizeBytes(), 1001 + written.size());
  EXPECT_OK(Do(file().Sync()));
}

TEST_P(FileTest, WhatWasNeverWrittenReadsAsZeros) {
  EXPECT_OK(Do(file().Write(100'000, Pattern(10, 1))));
  std::vector<std::byte> got(100'000, std::byte{1});
  EXPECT_OK(Do(file().Read(0, got)));
  EXPECT_TRUE(IsZero(got));
}

TEST_P(FileTest, AReadThatMeetsTheEndFailsWhole) {
  EXPECT_OK(Do(file().Write(0, Pattern(1000, 1))));
  std::vector<std::byte> got(1001);
  EXPECT_THAT(Do(file().Read(0, got)), AllOf(IsCode(StatusCode::kOutOfRange), SaysThat("file")));
  EXPECT_THAT(Do(file().Read(1000, got)), IsCode(StatusCode::kOutOfRange));
  EXPECT_THAT(Do(file().Read(5'000'000, got)), IsCode(StatusCode::kOutOfRange));
  EXPECT_OK(Do(file().Read(0, std::span(got).first(1000))));
}

TEST_P(FileTest, OffsetsNoFileCanHaveAreRefused) {
  std::vector<std::byte> bytes(4096);
  for (const uint64_t offset : {uint64_t{1} << 63, ~uint64_t{0}, (uint64_t{1} << 63) - 100}) {
    EXPECT_THAT(Do(file().Read(offset, bytes)), IsCode(StatusCode::kOutOfRange));
    EXPECT_FALSE(Do(file().Write(offset, bytes)).ok());
    EXPECT_FALSE(Do(file().Allocate(offset, 4096)).ok());
    EXPECT_FALSE(Do(file().PunchHole(offset, 4096)).ok());
  }
  EXPECT_FALSE(Do(file().Truncate(uint64_t{1} << 63)).ok());
  EXPECT_EQ(*file().SizeBytes(), 0u);
}

TEST_P(FileTest, RequestsOfNoBytesSucceedAndChangeNothing) {
  EXPECT_OK(Do(file().Write(500, {})));
  EXPECT_OK(Do(file().Read(500, {})));
  EXPECT_OK(Do(file().Allocate(500, 0)));
  EXPECT_OK(Do(file().PunchHole(500, 0)));
  EXPECT_EQ(*file().SizeBytes(), 0u);
}

TEST_P(FileTest, MovesThousandsOfBuffersInOneRequest) {
  const auto source = Pattern(40'000, 3);
  std::vector<std::byte> target(source.size());
  std::vector<iovec> from;
  // 1 to 15 bytes each, and an empty one now and then: more than IOV_MAX.
  for (size_t at = 0; at < source.size();) {
    const size_t count = std::min<size_t>(1 + at % 15, source.size() - at);
    from.push_back({const_cast<std::byte*>(source.data()) + at, count});
    if (at % 7 == 0) from.push_back({nullptr, 0});
    at += count;
  }
  ASSERT_GT(from.size(), 2048u);
  EXPECT_OK(Do(file().WriteVector(77, from)));
  EXPECT_OK(Do(file().Read(77, target)));
  EXPECT_EQ(target, source);
}

TEST_P(FileTest, AllocateMakesTheFileLongerAndKeepsItsBytes) {
  const auto written = Pattern(5000, 4);
  EXPECT_OK(Do(file().Write(0, written)));
  EXPECT_OK(Do(file().Allocate(0, kMiB)));
  EXPECT_EQ(*file().SizeBytes(), kMiB);
  EXPECT_OK(Do(file().Allocate(0, 100)));
  EXPECT_EQ(*file().SizeBytes(), kMiB) << "shrank";
  const auto all = ReadAll(file());
  EXPECT_TRUE(std::equal(written.begin(), written.end(), all.begin()));
  EXPECT_TRUE(IsZero(std::span(all).subspan(5000)));
  if (!IsMemory()) {
    EXPECT_GE(*file().DiskBytes(), kMiB);
  }
}

TEST_P(FileTest, APunchedRangeReadsAsZerosAndItsSpaceIsBack) {
  const auto written = Pattern(kMiB, 5);
  EXPECT_OK(Do(file().Write(0, written)));
  EXPECT_OK(Do(file().Sync()));
  const uint64_t before = *file().DiskBytes();
  EXPECT_OK(Do(file().PunchHole(100, 512 * kKiB)));
  const auto all = ReadAll(file());
  EXPECT_TRUE(std::equal(all.begin(), all.begin() + 100, written.begin()));
  EXPECT_TRUE(IsZero(std::span(all).subspan(100, 512 * kKiB)));
  EXPECT_TRUE(
      std::equal(all.begin() + 100 + 512 * kKiB, all.end(), written.begin() + 100 + 512 * kKiB));
  EXPECT_LE(*file().DiskBytes() + 500 * kKiB, before);
  EXPECT_OK(Do(file().PunchHole(kMiB - 10, kMiB)));
  EXPECT_EQ(*file().SizeBytes(), kMiB) << "a punch must not change the size";
}

TEST_P(FileTest, TruncateShrinksAndGrowsWithZeros) {
  EXPECT_OK(Do(file().Write(0, Pattern(10'000, 6))));
  EXPECT_OK(Do(file().Truncate(4321)));
  EXPECT_EQ(*file().SizeBytes(), 4321u);
  EXPECT_OK(Do(file().Truncate(9000)));
  const auto all = ReadAll(file());
  ASSERT_EQ(all.size(), 9000u);
  EXPECT_TRUE(IsZero(std::span(all).subspan(4321))) << "old bytes came back";
}

TEST_P(FileTest, NamesAreNewForCreateAndThereForOpen) {
  const auto first = Create("one");
  EXPECT_THAT(storage().Open("one", OpenMode::kCreate),
              AllOf(IsCode(StatusCode::kAlreadyExists), SaysThat("one")));
  EXPECT_THAT(storage().Open("two", OpenMode::kReadWrite),
              AllOf(IsCode(StatusCode::kNotFound), SaysThat("two")));
  EXPECT_THAT(storage().Open("two", OpenMode::kRead), IsCode(StatusCode::kNotFound));
}

TEST_P(FileTest, AFileOpenedForReadingIsNotWritten) {
  EXPECT_OK(Do(file().Write(0, Pattern(100, 1))));
  auto reader = storage().Open("file", OpenMode::kRead);
  ASSERT_OK(reader);
  EXPECT_THAT(Do((*reader)->Write(0, Pattern(100, 2))), SaysThat("file"));
  EXPECT_FALSE(Do((*reader)->Truncate(10)).ok());
  EXPECT_EQ(ReadAll(**reader), Pattern(100, 1));
}

TEST_P(FileTest, TwoHandlesOfOneFileSeeTheSame) {
  auto second = *storage().Open((file(), "file"), OpenMode::kReadWrite);
  EXPECT_OK(Do(second->Write(0, Pattern(100, 1))));
  EXPECT_EQ(ReadAll(file()), Pattern(100, 1));
}

TEST_P(FileTest, RemoveRenameAndListGoByName) {
  for (const char* const name : {"b", "a", "c"})
    EXPECT_OK(Do(Create(name)->Write(0, AsBytes(name))));
  EXPECT_THAT(*storage().List(""), ElementsAre("a", "b", "c"));
  EXPECT_OK(storage().Remove("a"));
  EXPECT_THAT(storage().Remove("a"), IsCode(StatusCode::kNotFound));
  EXPECT_OK(storage().Rename("b", "c"));
  EXPECT_THAT(storage().Rename("b", "c"), IsCode(StatusCode::kNotFound));
  EXPECT_OK(storage().SyncDirectory(""));
  EXPECT_THAT(*storage().List(""), ElementsAre("c"));
  const auto left = *storage().Open("c", OpenMode::kRead);
  EXPECT_EQ(AsText(ReadAll(*left)), "b");
}

TEST_P(FileTest, ARemovedFileLivesOnInItsHandle) {
  EXPECT_OK(Do(file().Write(0, Pattern(100, 1))));
  EXPECT_OK(storage().Remove("file"));
  EXPECT_EQ(ReadAll(file()), Pattern(100, 1));
}

// Thousands of requests at once, more than a ring's queue takes, each in a range of its own,
// against a byte array.
constexpr size_t kSlots = 3000;
constexpr size_t kSlotBytes = 600;

Task<void> WriteSlot(File* file, size_t slot, const std::vector<std::byte>* image, int* left,
                     WaitQueue* done) {
  const auto part = std::span(*image).subspan(slot * kSlotBytes, kSlotBytes);
  absl::Status status = co_await file->Write(slot * kSlotBytes, part);
  if (status.ok() && slot % 100 == 0) status = co_await file->Sync();
  if (status.ok() && slot % 50 == 0) status = co_await file->Allocate(0, kSlots * kSlotBytes);
  std::vector<std::byte> got(kSlotBytes);
  if (status.ok()) status = co_await file->Read(slot * kSlotBytes, got);
  EXPECT_OK(status);
  EXPECT_TRUE(std::equal(got.begin(), got.end(), part.begin()));
  if (--*left == 0) done->WakeAll();
}

Task<absl::Status> WriteSlots(File* file, const std::vector<std::byte>* image) {
  WaitQueue done;
  int left = kSlots;
  for (size_t slot = 0; slot < kSlots; ++slot)
    StartDetached(WriteSlot(file, slot, image, &left, &done));
  while (left > 0) co_await done.Wait();
  co_return co_await file->Sync();
}

TEST_P(FileTest, ManyRequestsAtOnceAllArrive) {
  const auto image = Pattern(kSlots * kSlotBytes, 9);
  EXPECT_OK(Run(WriteSlots(&file(), &image)));
  EXPECT_EQ(ReadAll(file()), image);
}

INSTANTIATE_TEST_SUITE_P(AllStorages, FileTest, testing::ValuesIn(AllRigs()), RigName);

// What only a real directory can show.
class RealFileTest : public FileTest {
 protected:
  std::string PathOf(const std::string& name) { return rig().directory() + "/" + name; }
};

TEST_P(RealFileTest, ReadsThatMissThePageCacheComeFromTheDisk) {
  const auto written = Pattern(3 * kMiB, 7);
  EXPECT_OK(Do(file().Write(0, written)));
  EXPECT_OK(Do(file().Sync()));
  const UniqueFd fd(::open(PathOf("file").c_str(), O_RDONLY | O_CLOEXEC));
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
    std::vector<std::byte> got(written.size() - 5000);
    EXPECT_OK(Do(file().Read(5000, got)));
    EXPECT_TRUE(std::equal(got.begin(), got.end(), written.begin() + 5000));
  }
  ASSERT_EQ(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  std::vector<std::byte> got(written.size() + 1);
  EXPECT_THAT(Do(file().Read(0, got)), IsCode(StatusCode::kOutOfRange));
}

TEST_P(RealFileTest, ErrorsNameOperationPlaceAndPath) {
  std::vector<std::byte> got(10);
  EXPECT_THAT(Do(file().Read(7, got)),
              AllOf(SaysThat("read 10 bytes at 7"), SaysThat(PathOf("file"))));
  EXPECT_THAT(storage().Open("none", OpenMode::kRead),
              SaysThat("open " + PathOf("none") + ": No such file"));
}

TEST_P(RealFileTest, NamesThatLeadOutOfTheStoreAreRefused) {
  for (const char* const name : {"/etc/passwd", "../x", "a/../../x", ".."}) {
    EXPECT_THAT(storage().Open(name, OpenMode::kRead),
                AllOf(IsCode(StatusCode::kInvalidArgument), SaysThat(name)));
    EXPECT_THAT(storage().Remove(name), IsCode(StatusCode::kInvalidArgument));
  }
}

TEST_P(RealFileTest, OnlyRegularFilesAreOpened) {
  ASSERT_EQ(::mkfifo(PathOf("fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mkdir(PathOf("folder").c_str(), 0700), 0);
  EXPECT_THAT(storage().Open("fifo", OpenMode::kRead), SaysThat("not a regular file"));
  EXPECT_THAT(storage().Open("folder", OpenMode::kRead), SaysThat("not a regular file"));
}

TEST_P(RealFileTest, AMissingDirectoryShowsAtTheFirstCall) {
  const auto nowhere = rig().io_loop().OpenStorage("/nonexistent/store");
  EXPECT_THAT(nowhere->List(""),
              AllOf(IsCode(StatusCode::kNotFound), SaysThat("/nonexistent/store")));
}

TEST_P(RealFileTest, DescriptorsAreClosedOnExec) {
  const uint64_t inode = [&] {
    struct stat info;
    file();
    COWL_CHECK(::stat(PathOf("file").c_str(), &info) == 0);
    return info.st_ino;
  }();
  int found = 0;
  for (int fd = 0; fd < 1024; ++fd) {
    struct stat info;
    if (::fstat(fd, &info) != 0 || info.st_ino != inode) continue;
    ++found;
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  }
  EXPECT_GE(found, 1);
}

// A tmpfs of 1 MiB: the end of the space falls into the middle of a write.
TEST_P(RealFileTest, AFullDiskIsResourceExhaustedAndPasses) {
  const std::string small = PathOf("small");
  ASSERT_EQ(::mkdir(small.c_str(), 0700), 0);
  if (::mount("none", small.c_str(), "tmpfs", 0, "size=1m") != 0)
    GTEST_SKIP() << "needs root to mount a small tmpfs";
  {
    const auto full = rig().io_loop().OpenStorage(small);
    const auto file = *full->Open("file", OpenMode::kCreate);
    EXPECT_THAT(Do(file->Write(0, Pattern(2 * kMiB, 1))),
                AllOf(IsCode(StatusCode::kResourceExhausted), SaysThat("write"), SaysThat("file")));
    EXPECT_THAT(Do(file->Allocate(0, 4 * kMiB)), IsCode(StatusCode::kResourceExhausted));
    EXPECT_OK(Do(file->Truncate(0)));
    EXPECT_OK(Do(file->Write(0, Pattern(kMiB / 2, 1))));
  }
  EXPECT_EQ(::umount(small.c_str()), 0);
}

Task<void> SyncAndNote(File* file, bool* done) {
  const absl::Status status = co_await file->Sync();
  EXPECT_OK(status);
  *done = true;
}

Task<absl::Status> CountTicksDuringSync(Loop* loop, File* file, int* ticks) {
  bool done = false;
  StartDetached(SyncAndNote(file, &done));
  while (!done) {
    co_await Sleep(*loop, std::chrono::milliseconds(1));
    ++*ticks;
  }
  co_return absl::OkStatus();
}

TEST_P(RealFileTest, TheLoopTurnsWhileASyncIsUnderWay) {
  const std::vector<std::byte> much(48 * kMiB, std::byte{7});
  EXPECT_OK(Do(file().Write(0, much)));
  int ticks = 0;
  const auto began = std::chrono::steady_clock::now();
  EXPECT_OK(Run(CountTicksDuringSync(&rig().loop(), &file(), &ticks)));
  const auto took = std::chrono::steady_clock::now() - began;
  if (took < std::chrono::milliseconds(20)) GTEST_SKIP() << "the sync was too quick to tell";
  EXPECT_GE(ticks, 3) << "the sync held the loop";
}

INSTANTIATE_TEST_SUITE_P(RealFiles, RealFileTest, testing::ValuesIn(LoopRigs()), RigName);

}  // namespace
}  // namespace cowl
