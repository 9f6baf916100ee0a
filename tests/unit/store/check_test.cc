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
  // The catalog of a store that is closed.
  void Edit(const std::function<absl::Status(CatalogEdits&)>& work) {
    auto catalog = Catalog::Open(directory_ + "/catalog.db", CatalogMode::kReadWrite);
    ASSERT_OK(catalog);
    ASSERT_OK((*catalog)->Write(work));
  }
  template <typename Work>
  void OnFiles(Work work) {
    auto thread = LoopThread::Start(IoBackend::kSync);
    ASSERT_OK(thread);
    auto storage = (*thread)->loop().OpenStorage(directory_);
    EXPECT_OK(RunOn((*thread)->loop(), work((*thread)->loop(), *storage)));
  }
  std::string PathOf(const std::string& id) const { return directory_ + "/layers/" + id + ".cowl"; }
  std::string TopOf(const std::string& image) {
    const auto history = store().History(image);
    EXPECT_OK(history);
    return history->front().id;
  }
};

uint64_t DiskBlocksOf(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) / 8 : 0;
}

// Runs `work` in the midst of a check, and expects it to end soon: nothing that it needs is held.
class InTheMidst {
 public:
  explicit InTheMidst(std::function<void()> work) : work_(std::move(work)) {}
  ~InTheMidst() { EXPECT_TRUE(ended_) << "the check never asked whether to go on"; }

  Progress AsProgress() {
    return [this](uint64_t, uint64_t) {
      if (running_.valid()) return true;
      running_ = std::async(std::launch::async, work_);
      ended_ = running_.wait_for(10s) == std::future_status::ready;
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
