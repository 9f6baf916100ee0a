// What clones and exports leave below a device gives its space back once the device has written
// over it.
#include <unistd.h>

#include <chrono>
#include <thread>

#include "store/reaper.h"
#include "store_rig.h"

namespace cowl {
namespace {

class OwnLayersTest : public StoreTest {
 protected:
  static constexpr uint64_t kMebibyte = 1 << 20;
  static constexpr uint64_t kBlocks = kMebibyte / kBlockBytes;

  void SetUp() override {
    StoreTest::SetUp();
    ASSERT_OK(store().CreateEmpty("web", {.size_bytes = 8 * kMebibyte, .cap_bytes = kMebibyte}));
  }

  // An export, from its begin to its end.
  void ExportWeb() {
    const auto view = store().Freeze("web", ::getpid());
    ASSERT_OK(view);
    ASSERT_OK(store().Release(view->token));
  }

  bool ComesDownTo(uint64_t stored_bytes) {
    return Soon([&] { return Device("web").stored_bytes <= stored_bytes; });
  }

  // The layer's map without the second half of its blocks.
  static Task<absl::Status> HalfByHand(Storage& storage, Uuid layer) {
    auto map = co_await LoadLayerMap(storage, DataFileName(layer));
    if (!map.ok()) co_return map.status();
    const BlockRanges hidden = {{kBlocks / 2, kBlocks}};
    FileMap half = WithoutRanges((*map)->map, hidden);
    const Uuid parent = (*map)->superblock.parent;
    co_return co_await RewriteMap(storage, DataFileName(layer), std::move(half), parent);
  }
};

TEST_F(OwnLayersTest, ADiscardAfterAnExportGivesTheSpaceBack) {
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, kBlocks, 'a'));
  ExportWeb();
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte);
  const uint64_t disk_bytes = DiskBytesOfLayers();
  ASSERT_OK(client.Discard(0, kBlocks / 2));
  EXPECT_OK(client.Fill(kBlocks, kBlocks / 2, 'b')) << "the cap has room again";
  EXPECT_EQ(StatusErrno(client.Fill(2 * kBlocks, 1, 'b')), ENOSPC);
  EXPECT_TRUE(ComesDownTo(kMebibyte)) << Device("web").stored_bytes;
  // What came is written elsewhere; what went, half a mebibyte, is back, once the reaper has been.
  EXPECT_TRUE(Soon([&] { return DiskBytesOfLayers() < disk_bytes + kMebibyte / 4; }));
  EXPECT_EQ(client.At(0), '0');
  EXPECT_EQ(client.At(kBlocks / 2), 'a');
  EXPECT_EQ(client.At(kBlocks), 'b');
  client = Client(nullptr);
  ExpectClean();
  Open();
  EXPECT_EQ(Content("web").substr(kBlocks / 2 - 1, kBlocks),
            "0" + std::string(kBlocks / 2, 'a') + std::string(kBlocks / 2 - 1, 'b'));
}

TEST_F(OwnLayersTest, ClosingTheDeviceGivesBackWhatItHides) {
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, kBlocks, 'a'));
  ExportWeb();
  ASSERT_OK(client.Fill(0, kBlocks, 'b'));
  client = Client(nullptr);
  Open();
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte);
  EXPECT_EQ(Content("web").substr(0, kBlocks), std::string(kBlocks, 'b'));
  ExpectClean();
}

TEST_F(OwnLayersTest, WhileAnExportRunsItsStateStays) {
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, kBlocks, 'a'));
  const auto view = store().Freeze("web", ::getpid());
  ASSERT_OK(view);
  ASSERT_OK(client.Discard(0, kBlocks));
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte);
  ASSERT_OK(store().Release(view->token));
  EXPECT_TRUE(ComesDownTo(0)) << "the end of the export is what frees it";
  client = Client(nullptr);
  ExpectClean();
}

TEST_F(OwnLayersTest, WhatACloneStillReadsStays) {
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, kBlocks, 'a'));
  ASSERT_OK(store().Clone("web", "other"));
  ASSERT_OK(client.Discard(0, kBlocks));
  EXPECT_OK(client.Fill(kBlocks, kBlocks, 'b')) << "the cap counts what the device itself sees";
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  EXPECT_EQ(Content("other").substr(0, kBlocks), std::string(kBlocks, 'a'));
  ASSERT_OK(store().RemoveDevice("other", false));
  EXPECT_TRUE(ComesDownTo(kMebibyte)) << Device("web").stored_bytes;
  client = Client(nullptr);
  ExpectClean();
}

// Nobody has to wait for those who read the image beside.
TEST_F(OwnLayersTest, OthersOnTheSameImageHoldUpNothing) {
  Import("base", std::string(kBlocks, 'i'));
  ASSERT_OK(store().Create("base", "a", {}));
  ASSERT_OK(store().Create("base", "b", {}));
  Client other = Connect("b");
  ASSERT_EQ(other.At(0), 'i');
  Client client = Connect("a");
  ASSERT_EQ(client.At(0), 'i');
  ASSERT_OK(client.Fill(0, kBlocks / 2, 'a'));
  const auto view = store().Freeze("a", ::getpid());
  ASSERT_OK(view);
  ASSERT_OK(store().Release(view->token));
  ASSERT_OK(client.Fill(0, kBlocks / 2, 'b'));
  const auto begin = std::chrono::steady_clock::now();
  client = Client(nullptr);  // closing gives back, too
  ASSERT_OK(store().Reset("a", false));
  // What must not be waited for ends with `other`, at the end of the test.
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_EQ(other.At(0), 'i');
  other = Client(nullptr);
  ExpectClean();
}

TEST_F(OwnLayersTest, AClosedDeviceGivesBackWhatItsLastCloneRead) {
  {
    Client client = Connect("web");
    ASSERT_OK(client.Fill(0, kBlocks, 'a'));
    ASSERT_OK(store().Clone("web", "other"));
    ASSERT_OK(client.Discard(0, kBlocks));
  }
  Open();  // web is closed
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte);
  ASSERT_OK(store().RemoveDevice("other", false));
  EXPECT_TRUE(ComesDownTo(0)) << Device("web").stored_bytes;
  EXPECT_EQ(Content("web").substr(0, kBlocks), std::string(kBlocks, '0'));
  ExpectClean();
}

TEST_F(OwnLayersTest, AClosedDeviceGivesBackWhatAWrittenCloneStoodOn) {
  {
    Client client = Connect("web");
    ASSERT_OK(client.Fill(0, kBlocks, 'a'));
    ASSERT_OK(store().Clone("web", "other"));
    ASSERT_OK(Connect("other").Fill(0, 1, 'x'));
    ASSERT_OK(store().Snapshot("other", "shot", false));  // a child of the layer below web
    ASSERT_OK(store().RemoveDevice("other", true));
    ASSERT_OK(client.Discard(0, kBlocks));
  }
  Open();
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte);
  ASSERT_OK(store().RemoveImage("shot", false));
  EXPECT_TRUE(ComesDownTo(0)) << Device("web").stored_bytes;
  ExpectClean();
}

TEST_F(OwnLayersTest, AClosedDeviceGivesBackWhatAnExportRead) {
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, kBlocks, 'a'));
  const auto view = store().Freeze("web", ::getpid());
  ASSERT_OK(view);
  ASSERT_OK(client.Fill(0, kBlocks, 'b'));
  client = Client(nullptr);
  Open();
  EXPECT_EQ(Device("web").stored_bytes, 2 * kMebibyte);
  ASSERT_OK(store().Release(view->token));
  EXPECT_TRUE(ComesDownTo(kMebibyte)) << Device("web").stored_bytes;
  EXPECT_EQ(Content("web").substr(0, kBlocks), std::string(kBlocks, 'b'));
  ExpectClean();
}

// No event told of the end of that reader: it was there and went between two openings.
TEST_F(OwnLayersTest, GarbageCollectionLooksAtClosedDevices) {
  {
    Client client = Connect("web");
    ASSERT_OK(client.Fill(0, kBlocks, 'a'));
    ASSERT_OK(store().Clone("web", "other"));
    ASSERT_OK(client.Discard(0, kBlocks));
  }
  store_.reset();
  EditCatalog([](CatalogEdits& edits) { return edits.RemoveDevice("other"); });
  Open();
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte);
  const auto freed_bytes = store().CollectGarbage();
  ASSERT_OK(freed_bytes);
  EXPECT_GE(*freed_bytes, kMebibyte);
  EXPECT_EQ(Device("web").stored_bytes, 0u);
  ExpectClean();
}

// DropHidden as far as the layer's file, which is where a crash may end it.
TEST_F(OwnLayersTest, ARowThatACrashLeftBehindItsMapIsMended) {
  ASSERT_OK(Connect("web").Fill(0, kBlocks, 'a'));
  const auto view = store().Freeze("web", ::getpid());
  ASSERT_OK(view);
  ASSERT_OK(store().Release(view->token));
  const Uuid layer = *Uuid::Parse(view->layers.front().id);
  store_.reset();
  EditCatalog([&](CatalogEdits& edits) { return Reaper::NoteForReclaim(edits, layer); });
  OnFiles([&](Loop&, Storage& storage) { return HalfByHand(storage, layer); });
  Open(/*read_only=*/true);
  const auto report = store().Check("", true, false, nullptr);
  ASSERT_OK(report);
  for (const Finding& finding : report->errors) ADD_FAILURE() << finding.message;
  Open();
  EXPECT_EQ(Device("web").stored_bytes, kMebibyte / 2);
  EXPECT_OK(store().CollectGarbage());  // tells what the opening freed
  ExpectClean();
}

// A reset drops the overlay, and goes back to below the layer that lacks what the overlay hid.
TEST_F(OwnLayersTest, AResetGoesBackToTheImage) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "api", {}));
  Client client = Connect("api");
  ASSERT_OK(client.Fill(0, 3, 'X'));
  const auto view = store().Freeze("api", ::getpid());
  ASSERT_OK(view);
  ASSERT_OK(store().Release(view->token));
  ASSERT_OK(client.Fill(1, 1, 'Y'));
  client = Client(nullptr);
  EXPECT_EQ(Content("api"), "XYXd");
  ASSERT_OK(store().Snapshot("api", "shot", false));
  EXPECT_EQ(Content("shot"), "XYXd");
  ASSERT_OK(store().Create("base", "new", {}));
  ASSERT_OK(store().Reset("api", false));
  EXPECT_EQ(Content("api"), "XYXd") << "the snapshot is what a reset goes back to";
  EXPECT_EQ(Content("new"), "abcd");
  ExpectClean();
}

}  // namespace
}  // namespace cowl
