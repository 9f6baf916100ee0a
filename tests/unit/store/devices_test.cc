// Devices: made, written, listed, reset, resized, removed, renamed; their names; who uses them.
#include <atomic>
#include <set>
#include <thread>

#include "store_rig.h"

namespace cowl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class DevicesTest : public StoreTest {};

TEST_F(DevicesTest, ADeviceStartsAsItsImageAndGoesItsOwnWay) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "one", {}));
  ASSERT_OK(store().Create("base", "two", {}));
  EXPECT_THAT(Files("layers"), SizeIs(1));  // nothing was written: no overlay has a file
  ASSERT_OK(Connect("one").Fill(1, 1, 'X'));
  EXPECT_EQ(Content("one"), "aXcd");
  EXPECT_EQ(Content("two"), "abcd");
  EXPECT_EQ(Content("base"), "abcd");
  Open();
  EXPECT_EQ(Content("one"), "aXcd");
  EXPECT_EQ(Content("two"), "abcd");
  EXPECT_EQ(Device("one").stored_bytes, kBlockBytes);
  EXPECT_EQ(Device("two").stored_bytes, 0u);
  EXPECT_EQ(Device("one").image, "base:latest");
  ExpectClean();
}

TEST_F(DevicesTest, AnEmptyDeviceReadsAsZeros) {
  ASSERT_OK(store().CreateEmpty("disk", {.size_bytes = 4 * kBlockBytes}));
  EXPECT_EQ(Content("disk"), "0000");
  ASSERT_OK(Connect("disk").Fill(2, 1, 'z'));
  EXPECT_EQ(Content("disk"), "00z0");
  EXPECT_EQ(Device("disk").image, "");
  ExpectClean();
}

TEST_F(DevicesTest, NamesAreMadeWhereNoneIsGiven) {
  Import("base:v1", "a");
  EXPECT_EQ(store().Create("base:v1", "", {})->name, "base-1");
  EXPECT_EQ(store().Create("base:v1", "", {})->name, "base-2");
  EXPECT_EQ(store().CreateEmpty("", {.size_bytes = kMiB})->name, "disk-1");
  Open();
  EXPECT_EQ(store().Create("base:v1", "", {})->name, "base-3");
  EXPECT_EQ(store().Clone("base-1", "")->name, "base-1-1");
}

TEST_F(DevicesTest, BadArgumentsAreRefusedAndChangeNothing) {
  Import("base", "abcd");
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(store().Create("base", "", {.size_bytes = 2 * kBlockBytes}),
              SaysThat("cannot be smaller"));
  EXPECT_THAT(store().Create("base", "", {.size_bytes = 65 * kTiB}), IsCode(code));
  EXPECT_THAT(store().Create("base", "", {.size_bytes = 4 * kBlockBytes + 1}), IsCode(code));
  EXPECT_THAT(store().CreateEmpty("x", {.size_bytes = 0}), IsCode(code));
  EXPECT_THAT(store().CreateVolume("x", 0), IsCode(code));
  for (const std::string& name : {std::string("."), std::string(".."), std::string("a/b"),
                                  std::string("a\nb"), std::string("A"), std::string(10000, 'a')}) {
    EXPECT_THAT(store().Create("base", name, {}), IsCode(code));
    EXPECT_THAT(store().CreateEmpty(name, {.size_bytes = kMiB}), IsCode(code));
    EXPECT_THAT(store().CreateVolume(name, kMiB), IsCode(code));
    EXPECT_THAT(store().RemoveDevice(name, false), IsCode(code));
    EXPECT_THAT(store().Reset(name, true), IsCode(code));
    EXPECT_THAT(store().Map(name), IsCode(code));
  }
  EXPECT_THAT(store().Create("nobody", "x", {}), IsCode(absl::StatusCode::kNotFound));
  EXPECT_THAT(store().Create("base", "base", {}), IsCode(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(*store().Devices(), IsEmpty());
  EXPECT_THAT(Files("volumes"), IsEmpty());
}

TEST_F(DevicesTest, AGrownDeviceReadsZerosBeyondItsImage) {
  Import("base", "ab");
  ASSERT_OK(store().Create("base", "big", {.size_bytes = 4 * kBlockBytes}));
  EXPECT_EQ(Content("big"), "ab00");
  ASSERT_OK(store().Resize("big", 6 * kBlockBytes, false));
  EXPECT_EQ(Content("big"), "ab0000");
  ASSERT_OK(Connect("big").Fill(5, 1, 'x'));
  EXPECT_EQ(Content("big"), "ab000x");
  ExpectClean();
}

TEST_F(DevicesTest, ShrinkingNeedsForceAndForgetsWhatLayBeyond) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  EXPECT_THAT(store().Resize("web", 2 * kBlockBytes, false), SaysThat("--force"));
  ASSERT_OK(store().Resize("web", kBlockBytes + 512, true));
  ASSERT_OK(store().Resize("web", 4 * kBlockBytes, false));
  Open();
  EXPECT_EQ(*Connect("web").Read(kBlockBytes + 511, 2), std::string("b\0", 2));
  EXPECT_EQ(Content("web"), "a?00");
  EXPECT_EQ(Content("base"), "abcd");
  ExpectClean();
}

TEST_F(DevicesTest, AWriteOfAClientThatRacesWithAResizeIsNotForgotten) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kMiB}));
  Client client = Connect("web");
  std::thread writer([&] { EXPECT_OK(client.Fill(0, 1, 'x')); });
  ASSERT_OK(store().Resize("web", 2 * kMiB, false));
  writer.join();
  ASSERT_OK(store().Resize("web", 3 * kMiB, false));
  client = Client(nullptr);
  Open();
  EXPECT_EQ(Connect("web").At(0), 'x');
}

// The overlay that a reset throws away is what hides the image's end.
TEST_F(DevicesTest, AResetOfAShrunkDeviceMakesItAsLargeAsItsImage) {
  Import("base", "abcdefgh");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(store().Resize("web", kBlockBytes, true));
  ASSERT_OK(store().Reset("web", false));
  EXPECT_EQ(Content("web"), "abcdefgh");
  ASSERT_OK(store().Resize("web", kBlockBytes, true));
  ASSERT_OK(store().Commit("web", "small", false));
  ASSERT_OK(store().Create("small", "large", {.size_bytes = 8 * kBlockBytes}));
  EXPECT_EQ(Content("large"), "a0000000") << "nothing of what lies beyond the image's end";
  ASSERT_OK(store().Resize("large", 16 * kBlockBytes, false));
  ASSERT_OK(store().Reset("large", false));
  EXPECT_EQ(Content("large"), "a000000000000000") << "one that grew keeps its size";
  ExpectClean();
}

TEST_F(DevicesTest, ResetGoesBackToTheImageAndFreesTheOverlay) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 4, 'x'));
  EXPECT_THAT(Files("layers"), SizeIs(2));
  ASSERT_OK(store().Reset("web", false));
  EXPECT_THAT(Files("layers"), SizeIs(1));
  EXPECT_EQ(Content("web"), "abcd");
  ASSERT_OK(Connect("web").Fill(3, 1, 'y'));
  Open();
  EXPECT_EQ(Content("web"), "abcy");
  ASSERT_OK(store().Reset("web", false));
  Open();
  EXPECT_EQ(Content("web"), "abcd");
  ExpectClean();
}

TEST_F(DevicesTest, RemovingFreesTheOverlayAndTheName) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 4, 'x'));
  ASSERT_OK(store().RemoveDevice("web", false));
  EXPECT_THAT(Files("layers"), SizeIs(1));
  EXPECT_THAT(store().RemoveDevice("web", false), IsCode(absl::StatusCode::kNotFound));
  ASSERT_OK(store().Create("base", "web", {}));
  EXPECT_EQ(Content("web"), "abcd");
  ExpectClean();
}

TEST_F(DevicesTest, WhatIsInUseIsRefusedNamingTheClient) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  Client client = Connect("web");
  for (const absl::Status& status :
       {store().RemoveDevice("web", false), store().Reset("web", false),
        store().Commit("web", "new", false).status(), store().Rename("web", "other", false)}) {
    EXPECT_THAT(status, IsCode(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(status, SaysThat("test client"));
  }
  EXPECT_THAT(Device("web").users, ElementsAre("test client"));
  ASSERT_OK(client.Fill(0, 1, 'x'));
  Client image = Connect("base");
  EXPECT_THAT(store().RemoveImage("base", false), SaysThat("test client"));
}

// A session as the server has it: told to go, it lets go of its disk.
TEST_F(DevicesTest, ForceDisconnectsFirst) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  for (const bool remove : {false, true}) {
    auto held =
        std::make_shared<std::shared_ptr<OpenExport>>(*store().exports().Open("web", "stubborn"));
    (*held)->SetDisconnect([held] { held->reset(); });
    ASSERT_OK(remove ? store().RemoveDevice("web", true) : store().Reset("web", true));
    EXPECT_EQ(*held, nullptr);
  }
  auto held =
      std::make_shared<std::shared_ptr<OpenExport>>(*store().exports().Open("base", "stubborn"));
  (*held)->SetDisconnect([held] { held->reset(); });
  ASSERT_OK(store().RemoveImage("base", true));
  ExpectLayerFilesSoon(IsEmpty());
}

TEST_F(DevicesTest, ManyClientsShareOneDevice) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kMiB}));
  Client one = Connect("web");
  Client two = Connect("web");
  ASSERT_OK(one.Fill(3, 1, 'x'));
  EXPECT_EQ(two.At(3), 'x');
  EXPECT_THAT(Device("web").users, SizeIs(2));
}

TEST_F(DevicesTest, RenamingKeepsContentAndOrigin) {
  Import("base", "ab");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 1, 'x'));
  ASSERT_OK(store().Rename("web", "shop", false));
  EXPECT_EQ(Content("shop"), "xb");
  EXPECT_THAT(store().exports().Open("web", "me"), IsCode(absl::StatusCode::kNotFound));
  ASSERT_OK(store().Create("base", "web", {}));
  EXPECT_EQ(Content("web"), "ab");
  EXPECT_THAT(store().Rename("shop", "web", true), IsCode(absl::StatusCode::kAlreadyExists));
  ASSERT_OK(store().Rename("base", "ground:v2", false));
  EXPECT_EQ(Device("web").image, "ground:v2");
  EXPECT_EQ(Content("ground:v2"), "ab");
  Open();
  EXPECT_EQ(Content("shop"), "xb");
  ExpectClean();
}

TEST_F(DevicesTest, TheCapBoundsWhatADeviceStores) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kMiB, .cap_bytes = 4 * kBlockBytes}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, 4, 'x'));
  EXPECT_THAT(client.Fill(4, 1, 'x'), IsCode(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(client.Fill(0, 4, 'y'));
  ASSERT_OK(client.Discard(0, 1));
  EXPECT_OK(client.Fill(4, 1, 'x'));
  EXPECT_EQ(Device("web").cap_bytes, 4 * kBlockBytes);
}

TEST_F(DevicesTest, ExportsAreListedAndTheDefaultIsAsked) {
  Import("base:v1", "a");
  ASSERT_OK(store().Create("base:v1", "web", {}));
  std::vector<std::string> names;
  const auto entries = store().exports().List();
  ASSERT_OK(entries);
  for (const auto& entry : *entries) names.push_back(entry.name);
  EXPECT_THAT(names, ElementsAre("base:v1", "web"));
  EXPECT_THAT(store().exports().Open("", "me"), IsCode(absl::StatusCode::kNotFound));
  store().SetDefaultExport("web");
  EXPECT_EQ((*store().exports().Open("", "me"))->name(), "web");
  EXPECT_THAT(store().exports().Open("base", "me"), IsCode(absl::StatusCode::kNotFound));
  EXPECT_TRUE((*store().exports().Open("base:v1", "me"))->device().read_only());
  EXPECT_THAT(store().exports().Open("Bad", "me"), SaysThat("device name \"Bad\""));
  EXPECT_THAT(Connect("base:v1").Fill(0, 1, 'x'), IsCode(absl::StatusCode::kPermissionDenied));
}

TEST_F(DevicesTest, DevicesSpreadOverTheLoops) {
  std::set<IoLoop*> loops;
  std::vector<Client> clients;
  for (int i = 0; i < 4; ++i) {
    const std::string name = "d" + std::to_string(i);
    ASSERT_OK(store().CreateEmpty(name, {.size_bytes = kMiB}));
    clients.push_back(Connect(name));
    loops.insert(&clients.back().hold().loop());
  }
  EXPECT_THAT(loops, SizeIs(2));
}

TEST_F(DevicesTest, ManyCreatesAtOnceAreFast) {
  Import("base", "abcd");
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 125; ++i) failed += store().Create("base", "", {}).ok() ? 0 : 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_THAT(*store().Devices(), SizeIs(1000));
  EXPECT_THAT(Files("layers"), SizeIs(1));
}

}  // namespace
}  // namespace cowl
