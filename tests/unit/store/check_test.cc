// What check says: of states that a crash leaves and recovery mends, of space that nothing refers
// to, and while everything else goes on.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>

#include "catalog/catalog.h"
#include "overlay/overlay.h"
#include "store_rig.h"

namespace cowl {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class CheckTest : public StoreTest {
 protected:
  CheckReport Check(const Progress& progress = nullptr) {
    const auto report = store().Check("", true, false, progress);
    EXPECT_OK(report);
    return report.value_or(CheckReport{});
  }
  void ExpectNothingFound(const CheckReport& report) {
    for (const Finding& finding : report.errors)
      ADD_FAILURE() << "error: " << finding.path << ": " << finding.message;
    for (const Finding& finding : report.leaks)
      ADD_FAILURE() << "leak: " << finding.path << ": " << finding.message;
  }
  std::string PathOf(const std::string& id) const { return directory_ + "/layers/" + id + ".cowl"; }
  std::string TopOf(const std::string& image) {
    const auto history = store().History(image);
    EXPECT_OK(history);
    return history->front().id;
  }
  // "top" is "aXcd" on "base", whose name goes: its layer is to be merged into that of "top".
  void MakeMergeDue() {
    Import("base", "abcd");
    ASSERT_OK(store().Create("base", "web", {}));
    ASSERT_OK(Connect("web").Fill(1, 1, 'X'));
    ASSERT_OK(store().Commit("web", "top", false));
    parent_ = *Uuid::Parse(TopOf("base"));
    child_ = *Uuid::Parse(TopOf("top"));
    store_.reset();
    EditCatalog([](CatalogEdits& edits) { return edits.RemoveImage("base", "latest"); });
  }

  Uuid parent_;
  Uuid child_;
};

// The reaper's merge as far as the child's file, which is where a crash may end it.
Task<absl::Status> MergeByHand(Storage& storage, Uuid child, Uuid parent, bool all_of_it) {
  auto map = co_await LoadLayerMap(storage, DataFileName(child));
  if (!map.ok()) co_return map.status();
  auto below = co_await LoadLayerMap(storage, DataFileName(parent));
  if (!below.ok()) co_return below.status();
  FileMap merged = all_of_it ? MergeParentInto(**map, **below) : (*map)->map;
  co_return co_await RewriteMap(storage, DataFileName(child), std::move(merged),
                                (*below)->superblock.parent);
}

uint64_t DiskBlocksOf(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) / 8 : 0;
}

void AppendBlocks(const std::string& path, uint64_t blocks) {
  std::ofstream(path, std::ios::app | std::ios::binary) << std::string(blocks * kBlockBytes, 'm');
}

TEST_F(CheckTest, AMergeThatACrashEndedHalfWayIsNoError) {
  MakeMergeDue();
  OnFiles([&](Loop&, Storage& storage) { return MergeByHand(storage, child_, parent_, true); });
  Open(/*read_only=*/true);
  ExpectNothingFound(Check());
  EXPECT_EQ(Content("top"), "aXcd");
  Open();
  EXPECT_EQ(Content("top"), "aXcd");
  EXPECT_THAT(*store().History("top"), SizeIs(1));
  ExpectNothingFound(Check());
}

TEST_F(CheckTest, AChildThatLostItsParentOtherwiseIsAnError) {
  MakeMergeDue();
  OnFiles([&](Loop&, Storage& storage) { return MergeByHand(storage, child_, parent_, false); });
  Open(/*read_only=*/true);
  const CheckReport report = Check();
  ASSERT_THAT(report.errors, SizeIs(1));
  EXPECT_THAT(report.errors[0].message, HasSubstr("another parent layer"));
}

TEST_F(CheckTest, TheNextOpeningGivesBackWhatAMergeThatWasCutShortLeft) {
  MakeMergeDue();
  AppendBlocks(PathOf(child_.ToString()), 8);  // half a map, say
  Open(/*read_only=*/true);
  ExpectNothingFound(Check());  // the opening to come looks at that file anyway
  Open();
  ExpectNothingFound(Check());
  EXPECT_EQ(Content("top"), "aXcd");
  const uint64_t disk_blocks = DiskBlocksOf(PathOf(child_.ToString()));
  ASSERT_OK(store().CollectGarbage());
  EXPECT_EQ(DiskBlocksOf(PathOf(child_.ToString())), disk_blocks);
}

TEST_F(CheckTest, DeadBlocksInALayersFileAreALeak) {
  Import("base", "abcd");
  const std::string path = PathOf(TopOf("base"));
  const uint64_t size_bytes = std::filesystem::file_size(path);
  AppendBlocks(path, 3);
  const CheckReport report = Check();
  EXPECT_THAT(report.errors, IsEmpty());
  ASSERT_THAT(report.leaks, SizeIs(1));
  EXPECT_EQ(report.leaks[0].path, path);
  EXPECT_EQ(report.leaks[0].offset_bytes, size_bytes);
  EXPECT_THAT(report.leaks[0].message, HasSubstr("12288 bytes"));
  EXPECT_GE(*store().CollectGarbage(), 3 * kBlockBytes);
  ExpectClean();
}

TEST_F(CheckTest, AnOverlaysFreeSlotsAreNoLeak) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = 4 * kMiB}));
  {
    Client web = Connect("web");
    for (int i = 0; i < 8; ++i) ASSERT_OK(web.Fill(0, 256, static_cast<char>('a' + i)));
    ExpectNothingFound(Check());
  }
  ExpectClean();
}

TEST_F(CheckTest, WhatAKilledImportLeftIsALeakAndRepaired) {
  const StagedLayer staged = Stage("abcd");
  const CheckReport report = Check();
  ASSERT_THAT(report.leaks, SizeIs(1));
  EXPECT_EQ(report.leaks[0].path, staged.path);
  ASSERT_OK(store().Check("", false, true, nullptr));
  EXPECT_FALSE(std::filesystem::exists(staged.path));
  ExpectClean();
}

// A seal that folded a long chain into its map, and was killed before the catalog knew.
Task<absl::Status> SealAndFold(Loop& loop, Storage& storage, Uuid id, Uuid base) {
  auto overlay = co_await Overlay::Open(loop, storage, id, OpenMode::kReadWrite, false);
  if (!overlay.ok()) co_return overlay.status();
  COWL_CO_RETURN_IF_ERROR(co_await (*overlay)->PrepareToAppend());
  COWL_CO_RETURN_IF_ERROR(co_await (*overlay)->SealToLayer(4 * kBlockBytes, base, "by hand"));
  co_return co_await MergeByHand(storage, id, base, true);
}

TEST_F(CheckTest, ASealedOverlayThatNamesOtherFilesIsReadWhereItsDataIs) {
  Import("base", "abcdefgh");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(1, 1, 'X'));
  store_.reset();
  Uuid overlay;
  Uuid base;
  EditCatalog([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(DeviceRow row, edits.FindDevice("web"));
    overlay = row.overlay;
    base = row.base_layer;
    row.pending_overlay = Uuid::Random();
    return edits.UpdateDevice(row);
  });
  OnFiles([&](Loop& loop, Storage& storage) { return SealAndFold(loop, storage, overlay, base); });
  Open(/*read_only=*/true);
  ExpectNothingFound(Check());
  Open();
  EXPECT_EQ(Content("web"), "aXcdefgh");
  ExpectClean();
}

// Runs `work` in the midst of a check, and expects it to end meanwhile: nothing that it needs is
// held.
class InTheMidst {
 public:
  explicit InTheMidst(std::function<void()> work) : work_(std::move(work)) {}
  ~InTheMidst() {
    EXPECT_TRUE(running_.valid()) << "the check never asked whether to go on";
    EXPECT_TRUE(ended_) << "the check holds what this needs";
  }

  Progress AsProgress() {
    return [this](uint64_t, uint64_t) {
      if (running_.valid()) return true;
      running_ = std::async(std::launch::async, work_);
      ended_ = running_.wait_for(60s)  // a machine may take seconds to sync
               == std::future_status::ready;
      return true;
    };
  }

 private:
  const std::function<void()> work_;
  std::future<void> running_;
  bool ended_ = false;
};

constexpr uint64_t kManyBlocks = 24 * 1024;  // 96 MiB: more than is read in one go

TEST_F(CheckTest, ADeviceIsServedWhileItIsChecked) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kManyBlocks * kBlockBytes}));
  Client first = Connect("web");
  for (uint64_t block = 0; block < kManyBlocks; block += 1024)
    ASSERT_OK(first.Fill(block, 1024, 'a'));
  InTheMidst midst([&] {
    Client second = Connect("web");
    ASSERT_OK(second.Fill(kManyBlocks - 1, 1, 'b'));
    EXPECT_OK(store().Devices());
    EXPECT_OK(store().Snapshot("web", "state", false));
    ASSERT_OK(second.Fill(kManyBlocks - 1, 1, 'c'));
  });
  const CheckReport report = Check(midst.AsProgress());
  ExpectNothingFound(report);
  // The rest of what the snapshot took away was read as the layer that it is now.
  EXPECT_GE(report.checked_bytes, kManyBlocks * kBlockBytes);
  EXPECT_EQ(first.At(kManyBlocks - 1), 'c');
}

TEST_F(CheckTest, AClosedDeviceCanBeOpenedWhileItIsChecked) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kManyBlocks * kBlockBytes}));
  {
    Client web = Connect("web");
    for (uint64_t block = 0; block < kManyBlocks; block += 1024)
      ASSERT_OK(web.Fill(block, 1024, 'a'));
  }
  Open();  // closed for certain
  InTheMidst midst([&] {
    {
      Client web = Connect("web");
      for (uint64_t block = 0; block < kManyBlocks; block += 1024) {
        ASSERT_OK(web.Fill(block, 1024, 'b'));
        ASSERT_OK(web.Flush());
      }
    }
    EXPECT_OK(store().Rename("web", "other", false));
  });
  const CheckReport report = Check(midst.AsProgress());
  ExpectNothingFound(report);
  EXPECT_GE(report.checked_bytes, kManyBlocks * kBlockBytes);
}

TEST_F(CheckTest, SpaceComesBackWhileLayersAreChecked) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kManyBlocks * kBlockBytes}));
  {
    Client web = Connect("web");
    for (uint64_t block = 0; block < kManyBlocks; block += 1024)
      ASSERT_OK(web.Fill(block, 1024, 'a'));
  }
  ASSERT_OK(store().Snapshot("web", "lower", false));
  const std::string lower = PathOf(TopOf("lower"));
  {
    Client web = Connect("web");
    ASSERT_OK(web.Fill(0, 1024, 'b'));
    ASSERT_OK(web.Fill(kManyBlocks - 1024, 1024, 'b'));
  }
  ASSERT_OK(store().Commit("web", "upper", false));
  InTheMidst midst([&] {
    EXPECT_OK(store().RemoveImage("lower", false));
    for (int i = 0; i < 50 && DiskBlocksOf(lower) > kManyBlocks - 1024; ++i)
      std::this_thread::sleep_for(100ms);
    EXPECT_LT(DiskBlocksOf(lower), kManyBlocks - 1024);
  });
  ExpectNothingFound(Check(midst.AsProgress()));
  ExpectClean();
}

}  // namespace
}  // namespace cowl
