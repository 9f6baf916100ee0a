// The catalog as the store uses it: on real files, reopened, damaged, foreign, full of devices,
// written by many threads.
#include "catalog/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "catalog/dump_catalog.h"
#include "catalog/schema.h"

namespace cowl {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class CatalogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "catalog_test.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ / "catalog.db";
    const absl::Status status = Catalog::Create(path_);
    ASSERT_TRUE(status.ok()) << status;
    Reopen();
  }
  void TearDown() override {
    catalog_.reset();
    fs::remove_all(directory_);
  }

  void Reopen(CatalogMode mode = CatalogMode::kReadWrite) {
    catalog_.reset();
    auto opened = Catalog::Open(path_, mode);
    ASSERT_TRUE(opened.ok()) << opened.status();
    catalog_ = *std::move(opened);
  }

  std::vector<std::string> Listing() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_))
      names.push_back(entry.path().filename());
    return names;
  }

  // SQL from outside, as a person with the sqlite3 program would send it.
  void Tamper(const std::string& sql) {
    catalog_.reset();
    sqlite3* connection = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &connection), SQLITE_OK);
    char* error = nullptr;
    EXPECT_EQ(sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, &error), SQLITE_OK) << error;
    sqlite3_close(connection);
  }

  LayerRow AddLayer(const Uuid& parent = {}) {
    LayerRow layer;
    layer.id = Uuid::Random();
    layer.parent = parent;
    layer.size_bytes = kGiB;
    layer.stored_bytes = 8192;
    layer.created_ns = ++clock_;
    layer.created_by = "import";
    const absl::Status status =
        catalog_->Write([&](CatalogEdits& edits) { return edits.AddLayer(layer, {layer.id}); });
    EXPECT_TRUE(status.ok()) << status;
    return layer;
  }

  absl::Status PutImage(const std::string& name, const Uuid& layer, bool move_tag = false) {
    return catalog_->Write([&](CatalogEdits& edits) {
      return edits.PutImage({name, "latest", layer, ++clock_}, move_tag);
    });
  }

  DeviceRow MakeDevice(const std::string& name, const Uuid& layer = {}) {
    DeviceRow device;
    device.name = name;
    device.image = layer.IsNil() ? "" : "base:latest";
    device.image_layer = layer;
    device.base_layer = layer;
    device.overlay = Uuid::Random();
    device.size_bytes = kTiB;
    device.created_ns = ++clock_;
    return device;
  }

  absl::Status AddDevice(const DeviceRow& device) {
    return catalog_->Write([&](CatalogEdits& edits) { return edits.AddDevice(device); });
  }

  std::vector<std::string> DeviceNames() {
    std::vector<std::string> names;
    const absl::Status status = catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
      COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> devices, queries.Devices());
      for (const DeviceRow& device : devices) names.push_back(device.name);
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return names;
  }

  fs::path directory_;
  fs::path path_;
  std::unique_ptr<Catalog> catalog_;
  int64_t clock_ = 1700000000000000000;
};

TEST_F(CatalogTest, KeepsEveryFieldOverAReopening) {
  const LayerRow base = AddLayer();
  const LayerRow top = AddLayer(base.id);
  ASSERT_TRUE(PutImage("base", top.id).ok());
  DeviceRow device = MakeDevice("web", top.id);
  device.cap_bytes = 1 << 20;
  device.base_layer = base.id;
  device.overlay_written = true;
  device.pending_overlay = Uuid::Random();
  device.pending_written = true;
  ASSERT_TRUE(AddDevice(device).ok());
  Reopen();
  const absl::Status status = catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const DeviceRow got, queries.FindDevice("web"));
    EXPECT_EQ(got.image, "base:latest");
    EXPECT_EQ(got.image_layer, top.id);
    EXPECT_EQ(got.base_layer, base.id);
    EXPECT_EQ(got.overlay, device.overlay);
    EXPECT_TRUE(got.overlay_written);
    EXPECT_EQ(got.pending_overlay, device.pending_overlay);
    EXPECT_TRUE(got.pending_written);
    COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> pending, queries.PendingDevices());
    EXPECT_EQ(pending.size(), 1u);
    EXPECT_EQ(got.size_bytes, kTiB);
    EXPECT_EQ(got.cap_bytes, uint64_t{1} << 20);
    EXPECT_EQ(got.created_ns, device.created_ns);
    COWL_ASSIGN_OR_RETURN(const ImageRow image, queries.FindImage("base", "latest"));
    EXPECT_EQ(image.layer, top.id);
    COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> chain, queries.Chain(top.id));
    EXPECT_EQ(chain.size(), 2u);
    EXPECT_EQ(chain[0].id, top.id);
    EXPECT_EQ(chain[1].id, base.id);
    EXPECT_EQ(chain[1].created_by, "import");
    EXPECT_EQ(chain[1].stored_bytes, 8192u);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(CatalogTest, AClosedCatalogIsOneFile) {
  AddLayer();
  catalog_.reset();
  EXPECT_THAT(Listing(), ElementsAre("catalog.db"));
}

TEST_F(CatalogTest, AnOpenCatalogNeedsNoSharedMemoryFile) {
  AddLayer();
  EXPECT_THAT(Listing(), UnorderedElementsAre("catalog.db", "catalog.db-wal"));
}

TEST_F(CatalogTest, WorkThatFailsLeavesNoTrace) {
  const absl::Status status = catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_RETURN_IF_ERROR(edits.AddDevice(MakeDevice("one")));
    return edits.AddDevice(MakeDevice("one"));
  });
  EXPECT_TRUE(absl::IsAlreadyExists(status)) << status;
  EXPECT_THAT(DeviceNames(), IsEmpty());
  EXPECT_TRUE(AddDevice(MakeDevice("one")).ok());
  EXPECT_THAT(DeviceNames(), ElementsAre("one"));
}

TEST_F(CatalogTest, ImagesAndDevicesShareOneNameSpace) {
  const LayerRow layer = AddLayer();
  ASSERT_TRUE(PutImage("base", layer.id).ok());
  ASSERT_TRUE(AddDevice(MakeDevice("web")).ok());
  const absl::Status device_clash = AddDevice(MakeDevice("base"));
  EXPECT_TRUE(absl::IsAlreadyExists(device_clash));
  EXPECT_THAT(Message(device_clash), HasSubstr("an image has this name"));
  const absl::Status image_clash = PutImage("web", layer.id, true);
  EXPECT_TRUE(absl::IsAlreadyExists(image_clash));
  EXPECT_THAT(Message(image_clash), HasSubstr("a device has this name"));
  const absl::Status rename =
      catalog_->Write([](CatalogEdits& edits) { return edits.RenameDevice("web", "base"); });
  EXPECT_TRUE(absl::IsAlreadyExists(rename));
  EXPECT_THAT(DeviceNames(), ElementsAre("web"));
}

TEST_F(CatalogTest, ATagMovesOnlyWhenAsked) {
  const LayerRow first = AddLayer();
  const LayerRow second = AddLayer();
  ASSERT_TRUE(PutImage("base", first.id).ok());
  const absl::Status taken = PutImage("base", second.id);
  EXPECT_TRUE(absl::IsAlreadyExists(taken));
  EXPECT_THAT(Message(taken), HasSubstr("--force"));
  EXPECT_TRUE(PutImage("base", second.id, true).ok());
  const absl::Status status = catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> images, queries.Images());
    EXPECT_EQ(images.size(), 1u);
    EXPECT_EQ(images[0].layer, second.id);
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(CatalogTest, ALayerThatSomebodyNamesCannotGo) {
  const LayerRow base = AddLayer();
  const LayerRow top = AddLayer(base.id);
  ASSERT_TRUE(PutImage("base", top.id).ok());
  for (const Uuid& id : {base.id, top.id}) {
    const absl::Status status =
        catalog_->Write([&](CatalogEdits& edits) { return edits.RemoveLayer(id); });
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  }
  const absl::Status status = catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const LayerUse use, edits.UseOf(base.id));
    EXPECT_EQ(use.image_count, 0u);
    EXPECT_EQ(use.child_count, 1u);
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> unnamed, edits.UnnamedLayers());
    EXPECT_THAT(unnamed, ElementsAre(base.id));
    COWL_RETURN_IF_ERROR(edits.RemoveImage("base", "latest"));
    COWL_RETURN_IF_ERROR(edits.RemoveLayer(top.id));
    return edits.RemoveLayer(base.id);
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(CatalogTest, KnowsWhichFilesHaveAReasonToBe) {
  const LayerRow layer = AddLayer();
  const Uuid merged_in = Uuid::Random();
  DeviceRow device = MakeDevice("web", layer.id);
  device.pending_overlay = Uuid::Random();
  const absl::Status status = catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_RETURN_IF_ERROR(edits.AddDevice(device));
    COWL_RETURN_IF_ERROR(edits.UpdateLayer(layer, {layer.id, merged_in}));
    COWL_ASSIGN_OR_RETURN(const std::unordered_set<Uuid> named, edits.NamedFiles());
    EXPECT_THAT(named,
                UnorderedElementsAre(layer.id, merged_in, device.overlay, device.pending_overlay));
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> users, edits.LayersUsing(merged_in));
    EXPECT_THAT(users, ElementsAre(layer.id));
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(CatalogTest, WhatIsNotThereIsNamed) {
  const absl::Status device =
      catalog_->Read([](CatalogQueries& queries) { return queries.FindDevice("nobody").status(); });
  EXPECT_TRUE(absl::IsNotFound(device));
  EXPECT_THAT(Message(device), HasSubstr("nobody"));
  const absl::Status image = catalog_->Read(
      [](CatalogQueries& queries) { return queries.FindImage("no", "tag").status(); });
  EXPECT_TRUE(absl::IsNotFound(image));
  EXPECT_THAT(Message(image), HasSubstr("no:tag"));
  const absl::Status pin =
      catalog_->Write([](CatalogEdits& edits) { return edits.RemovePin("lost"); });
  EXPECT_TRUE(absl::IsNotFound(pin)) << pin;
}

TEST_F(CatalogTest, ReadingWritesNothingToTheDirectory) {
  ASSERT_TRUE(AddDevice(MakeDevice("web")).ok());
  Reopen(CatalogMode::kReadNothing);
  EXPECT_THAT(DeviceNames(), ElementsAre("web"));
  EXPECT_THAT(Listing(), ElementsAre("catalog.db"));
  const absl::Status status = AddDevice(MakeDevice("more"));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

// Copies the files of an open catalog: what a killed process leaves behind.
TEST_F(CatalogTest, ReadingAfterACrashSeesTheLogAndWritesNothing) {
  ASSERT_TRUE(AddDevice(MakeDevice("web")).ok());
  const fs::path copy = directory_ / "crashed";
  fs::create_directory(copy);
  fs::copy(path_, copy / "catalog.db");
  fs::copy(directory_ / "catalog.db-wal", copy / "catalog.db-wal");
  ASSERT_GT(fs::file_size(copy / "catalog.db-wal"), 0u);
  catalog_.reset();
  directory_.swap(const_cast<fs::path&>(copy));
  path_ = directory_ / "catalog.db";
  const auto database_time = fs::last_write_time(path_);
  const auto log_time = fs::last_write_time(directory_ / "catalog.db-wal");

  Reopen(CatalogMode::kReadNothing);
  EXPECT_THAT(DeviceNames(), ElementsAre("web"));
  catalog_.reset();
  EXPECT_THAT(Listing(), UnorderedElementsAre("catalog.db", "catalog.db-wal"));
  EXPECT_EQ(fs::last_write_time(path_), database_time);
  EXPECT_EQ(fs::last_write_time(directory_ / "catalog.db-wal"), log_time);

  Reopen();
  EXPECT_THAT(DeviceNames(), ElementsAre("web"));
  catalog_.reset();
  EXPECT_THAT(Listing(), ElementsAre("catalog.db"));
  directory_ = directory_.parent_path();
}

TEST_F(CatalogTest, ANewerVersionIsRefused) {
  Tamper("PRAGMA user_version = 2");
  const auto opened = Catalog::Open(path_, CatalogMode::kReadWrite);
  EXPECT_TRUE(absl::IsFailedPrecondition(opened.status())) << opened.status();
  EXPECT_THAT(Message(opened.status()), HasSubstr("newer"));
}

TEST_F(CatalogTest, AForeignDatabaseIsRefusedAndNotTouched) {
  catalog_.reset();
  fs::remove(path_);
  Tamper("CREATE TABLE recipes (name TEXT); INSERT INTO recipes VALUES ('soup')");
  std::ifstream before(path_, std::ios::binary);
  const std::string content((std::istreambuf_iterator<char>(before)), {});
  for (const CatalogMode mode : {CatalogMode::kReadWrite, CatalogMode::kReadNothing}) {
    const auto opened = Catalog::Open(path_, mode);
    EXPECT_TRUE(absl::IsFailedPrecondition(opened.status())) << opened.status();
    EXPECT_THAT(Message(opened.status()), HasSubstr("not a cowl catalog"));
  }
  std::ifstream after(path_, std::ios::binary);
  EXPECT_EQ(content, std::string((std::istreambuf_iterator<char>(after)), {}));
  EXPECT_THAT(Listing(), ElementsAre("catalog.db"));
}

TEST_F(CatalogTest, NoDatabaseAtAllIsRefused) {
  catalog_.reset();
  for (const std::string& content :
       {std::string(), std::string("no database"), std::string(8192, 'x')}) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << content;
    const auto opened = Catalog::Open(path_, CatalogMode::kReadWrite);
    EXPECT_TRUE(absl::IsDataLoss(opened.status())) << opened.status();
    EXPECT_EQ(fs::file_size(path_), content.size());
  }
  fs::remove(path_);
  EXPECT_TRUE(absl::IsNotFound(Catalog::Open(path_, CatalogMode::kReadWrite).status()));
}

TEST_F(CatalogTest, EveryPageThatIsOverwrittenIsOneClearDataLoss) {
  const LayerRow layer = AddLayer();
  ASSERT_TRUE(PutImage("base", layer.id).ok());
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(AddDevice(MakeDevice(absl::StrCat("device-", i), layer.id)).ok());
  catalog_.reset();
  std::ifstream in(path_, std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  int refused = 0;
  for (size_t page = 0; page < good.size() / 4096; ++page) {
    std::string bad = good;
    bad.replace(page * 4096, 4096, std::string(4096, '\xa5'));
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bad;
    const auto opened = Catalog::Open(path_, CatalogMode::kReadWrite);
    EXPECT_TRUE(absl::IsDataLoss(opened.status())) << "page " << page << ": " << opened.status();
    if (!opened.ok()) {
      EXPECT_THAT(Message(opened.status()), HasSubstr(path_.string()));
      ++refused;
    }
  }
  EXPECT_GT(refused, 10);
  std::ofstream(path_, std::ios::binary | std::ios::trunc) << good.substr(0, good.size() / 2);
  EXPECT_TRUE(absl::IsDataLoss(Catalog::Open(path_, CatalogMode::kReadWrite).status()));
}

TEST_F(CatalogTest, ARowThatCannotBeIsDataLoss) {
  ASSERT_TRUE(AddDevice(MakeDevice("web")).ok());
  Tamper("UPDATE device SET size_bytes = 777");
  Reopen();
  const absl::Status status =
      catalog_->Read([](CatalogQueries& queries) { return queries.Devices().status(); });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

TEST_F(CatalogTest, CheckFindsABrokenReference) {
  const LayerRow layer = AddLayer();
  ASSERT_TRUE(PutImage("base", layer.id).ok());
  EXPECT_TRUE(catalog_->Check().ok());
  Tamper("PRAGMA foreign_keys = OFF; DELETE FROM layer");
  Reopen();
  const absl::Status status = catalog_->Check();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

TEST_F(CatalogTest, ALoopOfLayersIsDataLoss) {
  const LayerRow base = AddLayer();
  const LayerRow top = AddLayer(base.id);
  Tamper(
      absl::StrCat("UPDATE layer SET parent = (SELECT id FROM layer WHERE parent IS NOT NULL) "
                   "WHERE parent IS NULL"));
  Reopen();
  const absl::Status status =
      catalog_->Read([&](CatalogQueries& queries) { return queries.Chain(top.id).status(); });
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
}

TEST_F(CatalogTest, ManyThreadsAtOnceShareCommits) {
  constexpr int kThreads = 16, kEach = 40;
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        DeviceRow device;
        device.name = absl::StrCat("d-", t, "-", i);
        device.overlay = Uuid::Random();
        device.size_bytes = kGiB;
        if (!AddDevice(device).ok()) ++failed;
        // Every second one is a name that is taken: its failure must not touch its neighbours in
        // the same commit.
        device.overlay = Uuid::Random();
        if (!absl::IsAlreadyExists(AddDevice(device))) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  Reopen();
  EXPECT_EQ(DeviceNames().size(), size_t{kThreads * kEach});
}

TEST_F(CatalogTest, TenThousandDevicesOpenAndListInWellUnderASecond) {
  const LayerRow layer = AddLayer();
  ASSERT_TRUE(PutImage("base", layer.id).ok());
  const absl::Status status = catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    for (int i = 0; i < 10000; ++i)
      COWL_RETURN_IF_ERROR(edits.AddDevice(MakeDevice(absl::StrCat("device-", i), layer.id)));
    return absl::OkStatus();
  });
  ASSERT_TRUE(status.ok()) << status;
  catalog_.reset();
  EXPECT_LT(fs::file_size(path_), 10000u * 512);
  const auto begin = std::chrono::steady_clock::now();
  Reopen();
  const auto opened = std::chrono::steady_clock::now();
  EXPECT_EQ(DeviceNames().size(), 10000u);
  const auto listed = std::chrono::steady_clock::now();
  RecordProperty("open_us",
                 std::chrono::duration_cast<std::chrono::microseconds>(opened - begin).count());
  RecordProperty("list_us",
                 std::chrono::duration_cast<std::chrono::microseconds>(listed - opened).count());
  EXPECT_LT(listed - begin, std::chrono::milliseconds(500));
}

TEST_F(CatalogTest, AFullDiskChangesNothingAndIsRetriedOnceRoomWasMade) {
  const fs::path small = directory_ / "small";
  fs::create_directory(small);
  if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=1m") != 0)
    GTEST_SKIP() << "mounting a small tmpfs needs root";
  catalog_.reset();
  path_ = small / "catalog.db";
  ASSERT_TRUE(Catalog::Create(path_).ok());
  Reopen();
  ASSERT_TRUE(AddDevice(MakeDevice("first")).ok());
  {
    std::ofstream filler(small / "filler", std::ios::binary);
    const std::string page(4096, 'f');
    while (filler << page << std::flush) {
    }
  }
  size_t count = 1;
  absl::Status status;
  while (status.ok() && count < 1000) {
    status = AddDevice(MakeDevice(absl::StrCat("device-", count)));
    if (status.ok()) ++count;
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(DeviceNames().size(), count);
  int asked = 0;
  catalog_->SetMakeRoom([&] {
    ++asked;
    return fs::remove(small / "filler");
  });
  EXPECT_TRUE(AddDevice(MakeDevice("last")).ok());
  EXPECT_EQ(asked, 1);
  Reopen();
  EXPECT_EQ(DeviceNames().size(), count + 1);
  catalog_.reset();
  ::umount(small.c_str());
}

TEST_F(CatalogTest, CreatingDoesNotOverwrite) {
  EXPECT_TRUE(absl::IsAlreadyExists(Catalog::Create(path_)));
}

TEST_F(CatalogTest, PathsMayHoldWhatUrisMayNot) {
  const fs::path odd = directory_ / "a?b#c%41";
  fs::create_directory(odd);
  ASSERT_TRUE(Catalog::Create(odd / "catalog.db").ok());
  EXPECT_TRUE(fs::exists(odd / "catalog.db"));
  EXPECT_TRUE(Catalog::Open(odd / "catalog.db", CatalogMode::kReadWrite).ok());
  EXPECT_TRUE(Catalog::Open(odd / "catalog.db", CatalogMode::kReadNothing).ok());
}

TEST_F(CatalogTest, ADumpHasALineARowAlsoBesideAWriter) {
  const LayerRow base = AddLayer();
  const LayerRow top = AddLayer(base.id);
  ASSERT_TRUE(PutImage("web", top.id).ok());
  ASSERT_TRUE(AddDevice(MakeDevice("api", top.id)).ok());
  std::ostringstream out;  // the catalog stays open
  DumpCatalog(path_, out);
  EXPECT_THAT(out.str(),
              HasSubstr("layer " + base.id.ToString() + " parent - size_bytes 1073741824"));
  EXPECT_THAT(out.str(), HasSubstr("layer " + top.id.ToString() + " parent " + base.id.ToString()));
  EXPECT_THAT(out.str(), HasSubstr("image 'web' tag 'latest' layer " + top.id.ToString()));
  EXPECT_THAT(out.str(), HasSubstr("device 'api' overlay "));
  EXPECT_THAT(out.str(), HasSubstr(" base " + top.id.ToString()));
  EXPECT_THAT(Listing(), UnorderedElementsAre("catalog.db", "catalog.db-wal"));
}

TEST_F(CatalogTest, ADumpSaysWhatIsDamagedAndShowsTheRest) {
  ASSERT_TRUE(AddDevice(MakeDevice("api")).ok());
  Tamper("INSERT INTO setting VALUES ('odd', 'line' || char(10) || 'two'); DROP TABLE pin");
  std::ostringstream out;
  DumpCatalog(path_, out);
  EXPECT_THAT(out.str(), HasSubstr("setting 'odd' = 'line two'\n"));
  EXPECT_THAT(out.str(), HasSubstr("device 'api' "));
  EXPECT_THAT(out.str(), HasSubstr("pin damaged: "));
  fs::resize_file(path_, 3000);
  std::ostringstream cut;
  DumpCatalog(path_, cut);
  EXPECT_THAT(cut.str(), HasSubstr("damaged: "));
}

}  // namespace
}  // namespace cowl
