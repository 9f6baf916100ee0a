// A full disk: every verb says so or works, nothing is lost, space can always be freed, and writing
// goes on once there is room.
#include <sys/mount.h>

#include <fstream>
#include <thread>

#include "store_rig.h"

namespace cowl {
namespace {

class FullDiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    mounted_ = ::mount("tmpfs", temp_.path().c_str(), "tmpfs", 0, "size=48m") == 0;
    if (!mounted_) GTEST_SKIP() << "mounting a small tmpfs needs root";
    ASSERT_OK(Store::Init(directory_));
    Open();
  }
  void TearDown() override {
    store_.reset();
    if (mounted_) ::umount(temp_.path().c_str());
  }
  void Open() {
    store_.reset();
    auto opened = Store::Open(directory_, {});
    ASSERT_OK(opened);
    store_ = *std::move(opened);
  }
  Client Connect(const std::string& name) {
    auto hold = store_->exports().Open(name, "test client");
    EXPECT_OK(hold);
    if (!hold.ok()) abort();
    return Client(*std::move(hold));
  }
  void ExpectClean() {
    const auto report = store_->Check("", true, false, nullptr);
    ASSERT_OK(report);
    for (const Finding& finding : report->errors)
      ADD_FAILURE() << finding.path << ": " << finding.message;
    for (const Finding& finding : report->leaks)
      ADD_FAILURE() << finding.path << ": " << finding.message;
  }
  // Takes all the room there is.
  void FillDisk() {
    std::ofstream filler(temp_ / "filler", std::ios::binary | std::ios::app);
    const std::string page(4096, 'f');
    while (filler << page << std::flush) {
    }
  }

  TempDirectory temp_;
  const std::string directory_ = temp_ / "store";
  std::unique_ptr<Store> store_;
  bool mounted_ = false;
};

TEST_F(FullDiskTest, WritingGoesOnOnceThereIsRoom) {
  ASSERT_OK(store_->CreateEmpty("web", {.size_bytes = 256 * kMiB}));
  ASSERT_OK(store_->CreateEmpty("other", {.size_bytes = kMiB}));
  ASSERT_OK(Connect("other").Fill(0, 64, 'o'));
  uint64_t written = 0;
  {
    Client client = Connect("web");
    absl::Status status;
    while (status.ok() && written < 65536) {
      status = client.Fill(written, 64, 'w');
      if (status.ok()) written += 64;
    }
    EXPECT_THAT(status, IsCode(absl::StatusCode::kResourceExhausted));
    EXPECT_GT(written, 1000u);
    EXPECT_OK(client.Flush());
    EXPECT_EQ(client.At(written - 1), 'w');
    ASSERT_OK(client.Discard(0, written / 2));
    absl::Status again;
    for (int i = 0; i < 50; ++i) {
      again = client.Fill(written, 64, 'n');
      if (again.ok()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_OK(again);
    EXPECT_EQ(client.At(written), 'n');
  }
  Open();
  Client client = Connect("web");
  EXPECT_EQ(client.At(0), '0');
  EXPECT_EQ(client.At(written - 1), 'w');
  EXPECT_EQ(client.At(written), 'n');
  EXPECT_EQ(Connect("other").At(63), 'o');
  ExpectClean();
}

// Whoever filled it: the device's own files have no room left then.
TEST_F(FullDiskTest, DiscardsMayUseTheReserve) {
  constexpr uint64_t kBlocks = 8 * kMiB / kBlockBytes;
  for (const char* const name : {"web", "unwritten"})
    ASSERT_OK(store_->CreateEmpty(name, {.size_bytes = 64 * kMiB}));
  ASSERT_OK(Connect("web").Fill(0, kBlocks, 'w'));
  ASSERT_OK(store_->Clone("web", "clone"));
  Open();
  FillDisk();
  for (const char* const name : {"web", "unwritten", "clone"}) {
    EXPECT_OK(Connect(name).Discard(0, kBlocks / 2)) << name;
    std::this_thread::sleep_for(std::chrono::milliseconds(500));  // half of what came is kept
    FillDisk();
  }
  std::filesystem::remove(temp_ / "filler");
  EXPECT_EQ(Connect("web").At(kBlocks / 2), 'w');
  EXPECT_EQ(Connect("clone").At(0), '0');
  ExpectClean();
}

TEST_F(FullDiskTest, ADiscardBelowAnExportGivesSpaceBack) {
  constexpr uint64_t kBlocks = 20 * kMiB / kBlockBytes;
  ASSERT_OK(store_->CreateEmpty("web", {.size_bytes = 64 * kMiB}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, kBlocks, 'w'));
  const auto view = store_->Freeze("web", ::getpid());
  ASSERT_OK(view);
  ASSERT_OK(store_->Release(view->token));
  ASSERT_OK(client.Fill(kBlocks, 1, 'x'));
  FillDisk();
  ASSERT_OK(client.Discard(0, kBlocks));
  bool came_back = false;
  for (int i = 0; i < 200 && !came_back; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    came_back = std::filesystem::space(temp_.path()).available > kBlocks * kBlockBytes / 2;
  }
  EXPECT_TRUE(came_back);
  EXPECT_OK(client.Fill(0, kBlocks / 2, 'y'));
  client = Client(nullptr);
  ExpectClean();
}

TEST_F(FullDiskTest, EveryVerbFailsCleanlyOrWorksAndRemovingFreesSpace) {
  ASSERT_OK(store_->CreateEmpty("web", {.size_bytes = 64 * kMiB}));
  ASSERT_OK(Connect("web").Fill(0, 2048, 'w'));
  ASSERT_OK(store_->Snapshot("web", "one", false));
  ASSERT_OK(Connect("web").Fill(0, 1024, 'x'));
  ASSERT_OK(store_->Snapshot("web", "two", false));
  ASSERT_OK(Connect("web").Fill(0, 10, 'y'));
  FillDisk();
  // Some of these fit into what is kept back for such times; none may break anything.
  store_->Snapshot("web", "three", false).IgnoreError();
  store_->Clone("web", "copy").IgnoreError();
  store_->CreateEmpty("more", {.size_bytes = kMiB}).IgnoreError();
  store_->Flatten("two", "flat", false, nullptr).IgnoreError();
  EXPECT_THAT(store_->CreateVolume("volume", 16 * kMiB),
              IsCode(absl::StatusCode::kResourceExhausted));
  ExpectClean();
  for (uint64_t block : {0, 9}) EXPECT_EQ(Connect("web").At(block), 'y');
  EXPECT_EQ(Connect("web").At(10), 'x');
  EXPECT_EQ(Connect("web").At(1024), 'w');
  Open();
  EXPECT_EQ(Connect("web").At(0), 'y');
  const std::vector<ImageInfo> images = *store_->Images();
  for (const ImageInfo& image : images)
    EXPECT_OK(store_->RemoveImage(image.name + ":" + image.tag, false));
  const std::vector<DeviceInfo> devices = *store_->Devices();
  for (const DeviceInfo& device : devices) EXPECT_OK(store_->RemoveDevice(device.name, false));
  EXPECT_TRUE(Soon([&] { return std::filesystem::is_empty(directory_ + "/layers"); }));
  ASSERT_OK(store_->CreateEmpty("new", {.size_bytes = kMiB}));
  EXPECT_OK(Connect("new").Fill(0, 128, 'n'));
  ExpectClean();
}

}  // namespace
}  // namespace cowl
