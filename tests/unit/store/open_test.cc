// Making and opening stores: what is refused, who else has it, what a crash left, reading without
// writing.
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "store_rig.h"

namespace cowl {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class OpenTest : public StoreTest {};

TEST_F(OpenTest, AMissingDirectoryIsRefusedAndInitNamed) {
  EXPECT_THAT(Store::Open(temp_ / "nowhere", {}), SaysThat("cowl init"));
  EXPECT_FALSE(fs::exists(temp_ / "nowhere"));
}

TEST_F(OpenTest, ADirectoryThatIsNoStoreIsRefused) {
  EXPECT_THAT(Store::Open(temp_.path(), {}), SaysThat("is no store"));
  EXPECT_THAT(Store::Open(temp_.path(), {}), SaysThat("cowl init"));
}

TEST_F(OpenTest, InitRefusesAStoreAndADirectoryThatIsNotEmpty) {
  EXPECT_THAT(Store::Init(directory_), IsCode(absl::StatusCode::kAlreadyExists));
  fs::create_directory(temp_ / "full");
  std::ofstream(temp_ / "full/letter") << "dear";
  EXPECT_THAT(Store::Init(temp_ / "full"), SaysThat("not empty"));
  EXPECT_THAT(fs::exists(temp_ / "full/catalog.db"), false);
  EXPECT_THAT(Store::Init(temp_ / "full/letter"), testing::Not(IsOk()));
}

TEST_F(OpenTest, InitTakesAnEmptyDirectoryAndWhatAnInitThatWasCutShortLeft) {
  fs::create_directory(temp_ / "empty");
  EXPECT_OK(Store::Init(temp_ / "empty"));
  fs::remove(temp_ / "empty/catalog.db");
  EXPECT_OK(Store::Init(temp_ / "empty"));
  EXPECT_OK(Store::Open(temp_ / "empty", {}));
  EXPECT_OK(Store::Init(temp_ / "some/where/deep/"));
  EXPECT_OK(Store::Open(temp_ / "some/where/deep", {}));
}

TEST_F(OpenTest, ASecondOpeningIsRefusedNamingTheFirst) {
  StoreOptions options;
  options.lock_wait_ms = 50;
  const auto second = Store::Open(directory_, options);
  EXPECT_THAT(second, IsCode(absl::StatusCode::kUnavailable));
  EXPECT_THAT(second, SaysThat("process " + std::to_string(::getpid())));
  options.read_only = true;
  EXPECT_THAT(Store::Open(directory_, options), IsCode(absl::StatusCode::kUnavailable));
}

TEST_F(OpenTest, ItWaitsForAnotherToLetGo) {
  std::thread closer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    store_.reset();
  });
  const auto second = Store::Open(directory_, {});
  closer.join();
  EXPECT_OK(second);
}

TEST_F(OpenTest, TwoMayReadAtOnceAndNothingIsWritten) {
  Import("base", "ab");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 1, 'x'));
  store_.reset();
  std::vector<std::pair<std::string, fs::file_time_type>> before;
  for (const auto& entry : fs::recursive_directory_iterator(directory_))
    before.emplace_back(entry.path(), entry.last_write_time());
  StoreOptions options;
  options.read_only = true;
  {
    const auto first = Store::Open(directory_, options);
    ASSERT_OK(first);
    const auto second = Store::Open(directory_, options);
    ASSERT_OK(second);
    EXPECT_EQ((*first)->Devices()->size(), 1u);
    EXPECT_EQ((*first)->Devices()->front().stored_bytes, kBlockBytes);
    EXPECT_EQ((*second)->Images()->size(), 1u);
    EXPECT_EQ((*second)->Map("web")->size(), 2u);
    EXPECT_OK((*second)->Usage());
    EXPECT_OK((*second)->Check("", true, false, nullptr));
    EXPECT_OK((*second)->History("base"));
    EXPECT_THAT((*first)->Create("base", "more", {}), SaysThat("reading only"));
    EXPECT_THAT((*first)->exports().Open("web", "me"), SaysThat("reading only"));
  }
  std::vector<std::pair<std::string, fs::file_time_type>> after;
  for (const auto& entry : fs::recursive_directory_iterator(directory_))
    after.emplace_back(entry.path(), entry.last_write_time());
  EXPECT_EQ(before, after);
}

TEST_F(OpenTest, FilesThatNoRowNamesGoAtTheNextOpening) {
  store_.reset();
  std::ofstream(directory_ + "/layers/" + Uuid::Random().ToString() + ".cowl") << "half a layer";
  std::ofstream(directory_ + "/volumes/gone-" + Uuid::Random().ToString() + ".raw")
      << "half a volume";
  Open();
  EXPECT_THAT(Files("layers"), IsEmpty());
  EXPECT_THAT(Files("volumes"), IsEmpty());
}

TEST_F(OpenTest, ACleanStoreLeavesNothingOpenBehind) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kMiB}));
  ASSERT_OK(Connect("web").Fill(0, 4, 'x'));
  store_.reset();
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory_))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_THAT(names, ElementsAre("attach", "catalog.db", "layers", "lock", "reserve", "staging",
                                 "volumes"));
}

TEST_F(OpenTest, AMovedStoreOpensElsewhere) {
  Import("base", "ab");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(1, 1, 'x'));
  store_.reset();
  fs::rename(directory_, temp_ / "moved");
  auto moved = Store::Open(temp_ / "moved", {});
  ASSERT_OK(moved);
  store_ = *std::move(moved);
  EXPECT_EQ(Content("web"), "ax");
}

TEST_F(OpenTest, BothBackEndsWork) {
  Import("base", "ab");
  store_.reset();
  for (const char* const io : {"uring", "sync"}) {
    StoreOptions options;
    options.io = io;
    auto opened = Store::Open(directory_, options);
    ASSERT_OK(opened);
    store_ = *std::move(opened);
    EXPECT_EQ(Content("base"), "ab");
    store_.reset();
  }
  StoreOptions options;
  options.io = "magic";
  EXPECT_THAT(Store::Open(directory_, options), IsCode(absl::StatusCode::kInvalidArgument));
}

TEST_F(OpenTest, ADamagedCatalogIsOneClearError) {
  store_.reset();
  std::fstream(directory_ + "/catalog.db", std::ios::in | std::ios::out | std::ios::binary)
      .seekp(4200)
      .write("garbage garbage", 15);
  fs::resize_file(directory_ + "/catalog.db", 9000);
  const auto opened = Store::Open(directory_, {});
  EXPECT_THAT(opened, IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(opened, SaysThat("catalog.db"));
}

}  // namespace
}  // namespace cowl
