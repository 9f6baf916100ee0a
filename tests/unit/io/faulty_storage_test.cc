// The faulty storage: faults come when planned, change nothing else, and end.
#include "support/faulty_storage.h"

#include <cerrno>

#include "base/bytes.h"
#include "base/units.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using absl::StatusCode;
using Op = IoRequest::Op;

class FaultyStorageTest : public IoRigTest {
 protected:
  FaultyStorageTest() : faulty_(IoRigTest::storage(), &plan_) {}
  Storage& storage() { return faulty_; }
  FaultPlan& plan() { return plan_; }

  std::unique_ptr<File> Create(const std::string& name) {
    return *storage().Open(name, OpenMode::kCreate);
  }
  static Task<absl::Status> Await(File::Awaiter* awaiter) { co_return co_await *awaiter; }
  absl::Status Do(File::Awaiter awaiter) { return Run(Await(&awaiter)); }
  absl::Status WriteBlocks(File& file, uint64_t first, uint64_t count) {
    const std::vector<std::byte> bytes(count * kBlockBytes, std::byte{0x5a});
    return Do(file.Write(first * kBlockBytes, bytes));
  }

 private:
  FaultPlan plan_;
  FaultyStorage faulty_;
};

TEST_P(FaultyStorageTest, WithoutAPlanNothingFails) {
  const auto file = Create("a");
  EXPECT_OK(WriteBlocks(*file, 0, 10));
  EXPECT_OK(Do(file->Sync()));
  std::vector<std::byte> got(kBlockBytes);
  EXPECT_OK(Do(file->Read(kBlockBytes, got)));
  EXPECT_EQ(got[17], std::byte{0x5a});
  EXPECT_EQ(plan().hit_count(), 0u);
}

TEST_P(FaultyStorageTest, TheNthMatchingRequestFailsAndChangesNothing) {
  const auto one = Create("data-one");
  const auto two = Create("data-two");
  plan().FailNth({Op::kWrite, "two", 2, EIO});
  EXPECT_OK(WriteBlocks(*one, 0, 1));
  EXPECT_OK(WriteBlocks(*two, 0, 1));
  EXPECT_OK(WriteBlocks(*one, 1, 1));
  const absl::Status failed = WriteBlocks(*two, 1, 1);
  EXPECT_EQ(StatusErrno(failed), EIO);
  EXPECT_THAT(failed, SaysThat("data-two"));
  EXPECT_EQ(*two->SizeBytes(), kBlockBytes);
  EXPECT_OK(WriteBlocks(*two, 1, 1)) << "only the second one";
  EXPECT_EQ(plan().hit_count(), 1u);
}

TEST_P(FaultyStorageTest, AFaultMayLastUntilItIsCleared) {
  const auto file = Create("a");
  plan().FailNth({Op::kSync, "", 1, EIO, UINT64_MAX});
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(Do(file->Sync()).ok());
  plan().ClearFaults();
  EXPECT_OK(Do(file->Sync()));
}

TEST_P(FaultyStorageTest, ReadsAndAllocationsFailToo) {
  const auto file = Create("a");
  EXPECT_OK(WriteBlocks(*file, 0, 1));
  plan().FailNth({Op::kRead, "", 1, EIO});
  plan().FailNth({Op::kAllocate, "", 1, ENOSPC});
  std::vector<std::byte> got(10);
  EXPECT_EQ(StatusErrno(Do(file->Read(0, got))), EIO);
  EXPECT_THAT(Do(file->Allocate(0, kMiB)), IsCode(StatusCode::kResourceExhausted));
  EXPECT_EQ(*file->SizeBytes(), kBlockBytes);
}

TEST_P(FaultyStorageTest, CallsOfTheStorageFail) {
  plan().FailNth({CallFault::Call::kCreate, "b", 1, EMFILE});
  plan().FailNth({CallFault::Call::kSyncDirectory, "", 1, EIO});
  const auto a = Create("a");
  EXPECT_THAT(storage().Open("b", OpenMode::kCreate), IsCode(StatusCode::kResourceExhausted));
  EXPECT_EQ(StatusErrno(storage().SyncDirectory("")), EIO);
  EXPECT_OK(storage().SyncDirectory(""));
  EXPECT_THAT(*storage().List(""), testing::ElementsAre("a"));
}

TEST_P(FaultyStorageTest, RoomEndsAndComesBack) {
  const auto old = Create("old");
  EXPECT_OK(WriteBlocks(*old, 0, 4));
  const auto file = Create("a");
  plan().SetRoomBytes(10 * kBlockBytes);
  EXPECT_OK(WriteBlocks(*file, 0, 6));
  EXPECT_OK(WriteBlocks(*file, 0, 6)) << "rewriting takes no room";
  EXPECT_OK(Do(file->Allocate(6 * kBlockBytes, 3 * kBlockBytes)));
  EXPECT_THAT(WriteBlocks(*file, 8, 3), IsCode(StatusCode::kResourceExhausted));
  EXPECT_EQ(*file->SizeBytes(), 9 * kBlockBytes) << "a refused write must not grow the file";
  EXPECT_OK(WriteBlocks(*file, 8, 2));
  EXPECT_THAT(Do(file->Allocate(0, 11 * kBlockBytes)), IsCode(StatusCode::kResourceExhausted));

  EXPECT_OK(Do(file->PunchHole(0, 2 * kBlockBytes + 100)));
  EXPECT_EQ(plan().room_bytes(), 2 * kBlockBytes);
  EXPECT_OK(Do(file->Truncate(9 * kBlockBytes)));
  EXPECT_EQ(plan().room_bytes(), 3 * kBlockBytes);
  EXPECT_OK(storage().Remove("old"));
  EXPECT_EQ(plan().room_bytes(), 7 * kBlockBytes);
  EXPECT_OK(WriteBlocks(*file, 20, 7));
  EXPECT_FALSE(WriteBlocks(*file, 0, 1).ok());
  plan().SetRoomBytes(std::nullopt);
  EXPECT_OK(WriteBlocks(*file, 0, 1));
}

TEST_P(FaultyStorageTest, AFlippedBitIsReadUntilItsByteIsWritten) {
  const auto file = Create("a");
  EXPECT_OK(WriteBlocks(*file, 0, 2));
  plan().FlipBit("a", 5000, 3);
  std::vector<std::byte> got(2 * kBlockBytes);
  EXPECT_OK(Do(file->Read(0, got)));
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(got[i], i == 5000 ? std::byte{0x52} : std::byte{0x5a}) << i;
  std::vector<std::byte> parts(10);
  EXPECT_OK(Do(file->Read(4995, parts)));
  EXPECT_EQ(parts[5], std::byte{0x52});
  EXPECT_OK(WriteBlocks(*file, 1, 1));
  EXPECT_OK(Do(file->Read(0, got)));
  EXPECT_EQ(got[5000], std::byte{0x5a});
}

INSTANTIATE_TEST_SUITE_P(AllStorages, FaultyStorageTest, testing::ValuesIn(AllRigs()), RigName);

}  // namespace
}  // namespace cowl
