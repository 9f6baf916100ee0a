// Snapshots, commits, clones, flattening, freezing, and what becomes of layers that lose their
// names; with restarts in between.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "device/frozen_chain.h"
#include "layer/layer.h"
#include "store_rig.h"

namespace cowl {
namespace {

using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;
using ::testing::StartsWith;

class LayersTest : public StoreTest {
 protected:
  size_t LayerCount() {
    size_t count = 0;
    const auto nodes = store().Tree();
    EXPECT_OK(nodes);
    for (const TreeNode& node : *nodes) count += node.kind == TreeNode::Kind::kLayer ? 1 : 0;
    return count;
  }
  // As an export does.
  static Task<absl::Status> OpenChain(Storage& storage, std::vector<std::string> names,
                                      uint64_t size_bytes) {
    co_return (co_await OpenFrozenChain(storage, std::move(names), size_bytes)).status();
  }
  ImageInfo Image(const std::string& name) {
    const auto images = store().Images();
    EXPECT_OK(images);
    for (const ImageInfo& image : *images) {
      if (image.name + ":" + image.tag == name) return image;
    }
    ADD_FAILURE() << "no image " << name;
    return {};
  }
};

TEST_F(LayersTest, ASnapshotOfAnOpenDeviceKeepsItRunning) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(1, 1, 'X'));
  const auto sealed = store().Snapshot("web", "snap", false);
  ASSERT_OK(sealed);
  EXPECT_EQ(sealed->image, "snap:latest");
  ASSERT_OK(client.Fill(2, 1, 'Y'));
  EXPECT_EQ(client.At(1), 'X');
  EXPECT_EQ(Content("snap"), "aXcd");
  EXPECT_EQ(Content("web"), "aXYd");
  EXPECT_EQ(Device("web").image, "snap:latest");
  EXPECT_EQ(Device("web").stored_bytes, kBlockBytes);
  EXPECT_EQ(Image("snap:latest").layer_count, 2);
  EXPECT_EQ(Image("snap:latest").stored_bytes, 5 * kBlockBytes);
  client = Client(nullptr);
  Open();
  EXPECT_EQ(Content("snap"), "aXcd");
  EXPECT_EQ(Content("web"), "aXYd");
  ASSERT_OK(store().Reset("web", false));
  EXPECT_EQ(Content("web"), "aXcd");
  ExpectClean();
}

TEST_F(LayersTest, ASnapshotOfAClosedDeviceNeedsNoOpening) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(1, 1, 'X'));
  Open();
  ASSERT_OK(store().Snapshot("web", "snap", false));
  EXPECT_THAT(Files("layers"), SizeIs(2));
  EXPECT_EQ(Content("snap"), "aXcd");
  EXPECT_EQ(Content("web"), "aXcd");
  ASSERT_OK(Connect("web").Fill(1, 1, 'Z'));
  Open();
  EXPECT_EQ(Content("snap"), "aXcd");
  EXPECT_EQ(Content("web"), "aZcd");
  ExpectClean();
}

TEST_F(LayersTest, ASnapshotOfADeviceThatWasNeverWrittenIsItsImage) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(store().Snapshot("web", "same", false));
  EXPECT_EQ(Image("same:latest").layer, Image("base:latest").layer);
  ASSERT_OK(store().Create("base", "big", {.size_bytes = 6 * kBlockBytes}));
  ASSERT_OK(store().Snapshot("big", "bigger", false));
  EXPECT_EQ(Content("bigger"), "abcd00");
  ASSERT_OK(store().CreateEmpty("nothing", {.size_bytes = 2 * kBlockBytes}));
  ASSERT_OK(store().Commit("nothing", "zeros", false));
  EXPECT_EQ(Content("zeros"), "00");
  Open();
  EXPECT_EQ(Content("bigger"), "abcd00");
  EXPECT_EQ(Content("zeros"), "00");
  ExpectClean();
}

TEST_F(LayersTest, SnapshotsUnderLoadLoseNoWrite) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = kMiB}));
  Client client = Connect("web");
  std::atomic<bool> stop = false;
  std::vector<char> last(256, '0');
  std::thread writer([&] {
    std::mt19937 random(1);
    while (!stop) {
      const uint64_t block = random() % 256;
      const char fill = static_cast<char>('a' + random() % 26);
      EXPECT_OK(client.Fill(block, 1, fill));
      last[block] = fill;
      if (random() % 8 == 0) {
        EXPECT_OK(client.Flush());
      }
    }
  });
  for (int i = 0; i < 20; ++i) {
    const auto sealed = store().Snapshot("web", "s" + std::to_string(i), false);
    EXPECT_OK(sealed);
    EXPECT_LT(sealed->pause_us, 1'000'000u);
  }
  stop = true;
  writer.join();
  for (uint64_t block = 0; block < 256; ++block) EXPECT_EQ(client.At(block), last[block]) << block;
  client = Client(nullptr);
  Open();
  client = Connect("web");
  for (uint64_t block = 0; block < 256; ++block) EXPECT_EQ(client.At(block), last[block]) << block;
  client = Client(nullptr);
  ExpectClean();
}

TEST_F(LayersTest, ThreeHundredSnapshotsInARowWork) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = 512 * kBlockBytes}));
  Client client = Connect("web");
  for (int i = 0; i < 300; ++i) {
    ASSERT_OK(client.Fill(i, 1, static_cast<char>('a' + i % 26)));
    ASSERT_OK(store().Snapshot("web", "s:" + std::to_string(i), false)) << i;
  }
  for (int i = 0; i < 300; ++i) ASSERT_EQ(client.At(i), static_cast<char>('a' + i % 26)) << i;
  EXPECT_LE(Image("s:299").layer_count, 255);
  client = Client(nullptr);
  Open();
  for (const int at : {0, 100, 254, 255, 256, 299}) {
    Client image = Connect("s:" + std::to_string(at));
    EXPECT_EQ(image.At(at), static_cast<char>('a' + at % 26));
    EXPECT_EQ(image.At(0), 'a');
    EXPECT_EQ(image.At(at + 1), '0');
  }
  ASSERT_OK(Connect("web").Fill(400, 1, 'q'));
  ASSERT_OK(store().Snapshot("web", "s:closed", false));
  EXPECT_EQ(Connect("s:closed").At(400), 'q');
  ExpectClean();
}

// Where the chain grows too long, what devices wrote is taken in, and the image stays below.
TEST_F(LayersTest, ThreeHundredClonesOfClonesStillStandOnTheirImage) {
  constexpr int kClones = 300;
  Import("base", std::string(400, 'z'));
  ASSERT_OK(store().Create("base", "d0", {}));
  for (int i = 0; i < kClones; ++i) {
    const std::string name = "d" + std::to_string(i);
    ASSERT_OK(Connect(name).Fill(i, 1, static_cast<char>('a' + i % 25)));
    ASSERT_OK(store().Clone(name, "d" + std::to_string(i + 1))) << i;
  }
  const std::string last = "d" + std::to_string(kClones);
  EXPECT_EQ(Device(last).stored_bytes, kClones * kBlockBytes) << "without the image's 400 blocks";
  std::string content = Content(last);
  for (int i = 0; i < kClones; ++i) ASSERT_EQ(content[i], static_cast<char>('a' + i % 25)) << i;
  EXPECT_EQ(content.substr(kClones), std::string(400 - kClones, 'z'));
  ASSERT_OK(store().Reset(last, false));
  EXPECT_EQ(Content(last), std::string(400, 'z'));
  EXPECT_EQ(Device(last).stored_bytes, 0u);
  ExpectClean();
}

// What Freeze lists is what the files say, whatever is merged away at that moment.
TEST_F(LayersTest, AFrozenChainCanBeReadWhileLayersAreMerged) {
  ASSERT_OK(store().CreateEmpty("web", {.size_bytes = 64 * kBlockBytes}));
  Client client = Connect("web");
  auto loop = LoopThread::Start(IoBackend::kSync);
  ASSERT_OK(loop);
  const auto storage = (*loop)->loop().OpenStorage(directory_);
  for (int i = 0; i < 40 && !HasFailure(); ++i) {
    for (int j = 0; j < 3; ++j) {
      ASSERT_OK(client.Fill(j, 1, static_cast<char>('a' + i % 26)));
      ASSERT_OK(store().Snapshot("web", "s:" + std::to_string(j), true));
    }
    std::thread remover([&] {
      for (int j = 0; j < 3; ++j) EXPECT_OK(store().RemoveImage("s:" + std::to_string(j), false));
    });
    const auto view = store().Freeze("web", ::getpid());
    ASSERT_OK(view);
    std::vector<std::string> names;
    for (const LayerInfo& layer : view->layers) names.push_back("layers/" + layer.id + ".cowl");
    EXPECT_OK(RunOn((*loop)->loop(), OpenChain(*storage, names, view->size_bytes))) << i;
    remover.join();
    EXPECT_OK(store().Release(view->token));
  }
}

TEST_F(LayersTest, ACommitEndsTheDevice) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 2, 'X'));
  ASSERT_OK(store().Commit("web", "new:v1", false));
  EXPECT_THAT(*store().Devices(), IsEmpty());
  EXPECT_EQ(Content("new:v1"), "XXcd");
  ASSERT_OK(store().Create("new:v1", "web", {}));
  EXPECT_EQ(Content("web"), "XXcd");
  ASSERT_OK(store().Create("base", "two", {}));
  EXPECT_THAT(store().Commit("two", "new:v1", false), SaysThat("--force"));
  EXPECT_EQ(Content("two"), "abcd");
  ASSERT_OK(store().Commit("two", "new:v1", true));
  EXPECT_EQ(Content("new:v1"), "abcd");
  EXPECT_EQ(Content("web"), "XXcd");
  EXPECT_EQ(Device("web").image, "");
  Open();
  EXPECT_EQ(Content("web"), "XXcd");
  ExpectClean();
}

TEST_F(LayersTest, ACloneStartsFromThePresentState) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(store().Clone("web", "unwritten"));
  EXPECT_EQ(LayerCount(), 1u);
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, 1, 'X'));
  ASSERT_OK(store().Clone("web", "open"));
  ASSERT_OK(client.Fill(1, 1, 'Y'));
  client = Client(nullptr);
  Open();
  ASSERT_OK(store().Clone("web", "closed"));
  ASSERT_OK(Connect("closed").Fill(3, 1, 'Z'));
  EXPECT_EQ(Content("unwritten"), "abcd");
  EXPECT_EQ(Content("open"), "Xbcd");
  EXPECT_EQ(Content("closed"), "XYcZ");
  EXPECT_EQ(Content("web"), "XYcd");
  EXPECT_EQ(Device("web").image, "base:latest");
  EXPECT_EQ(Device("open").image, "base:latest");
  EXPECT_EQ(Device("web").stored_bytes, 2 * kBlockBytes);
  EXPECT_EQ(Device("open").stored_bytes, kBlockBytes);
  EXPECT_EQ(Device("closed").stored_bytes, 3 * kBlockBytes);
  ASSERT_OK(store().Reset("closed", false));
  EXPECT_EQ(Content("closed"), "abcd");
  ASSERT_OK(store().RemoveDevice("web", false));
  ASSERT_OK(store().RemoveDevice("open", false));
  ExpectSoon([&] { return LayerCount(); }, 1u);
  ExpectLayerFilesSoon(SizeIs(1));
  ExpectClean();
}

TEST_F(LayersTest, CloningWithoutWritesInBetweenAddsNoLayers) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, 1, 'X'));
  for (int i = 0; i < 5; ++i) ASSERT_OK(store().Clone("web", ""));
  EXPECT_EQ(LayerCount(), 2u);
  EXPECT_EQ(Content("web-5"), "Xbcd");
}

TEST_F(LayersTest, RemovingAnImageLeavesWhatOthersBuiltOnIt) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "one", {}));
  ASSERT_OK(Connect("one").Fill(0, 1, 'X'));
  ASSERT_OK(store().Commit("one", "mid", false));
  ASSERT_OK(store().Create("mid", "two", {}));
  ASSERT_OK(Connect("two").Fill(1, 1, 'Y'));
  ASSERT_OK(store().Commit("two", "top", false));
  const std::string mid = Image("mid:latest").layer;
  ASSERT_OK(store().RemoveImage("mid", false));
  ExpectSoon([&] { return LayerCount(); }, 2u);
  EXPECT_EQ(Content("top"), "XYcd");
  EXPECT_EQ(Image("top:latest").stored_bytes, 6 * kBlockBytes);
  EXPECT_THAT(Files("layers"), SizeIs(3));  // mid's file holds the block that top shows
  ASSERT_OK(store().RemoveImage("base", false));
  ExpectSoon([&] { return LayerCount(); }, 1u);
  EXPECT_EQ(Content("top"), "XYcd");
  EXPECT_EQ(Image("top:latest").stored_bytes, 4 * kBlockBytes);
  Open();
  EXPECT_EQ(Content("top"), "XYcd");
  ExpectClean();
  ASSERT_OK(store().RemoveImage("top", false));
  ExpectLayerFilesSoon(IsEmpty());
  ExpectClean();
}

TEST_F(LayersTest, ALayerUnderADeviceStaysUntilTheDeviceGoes) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, 1, 'X'));
  ASSERT_OK(store().RemoveImage("base", false));
  EXPECT_EQ(client.At(1), 'b');
  EXPECT_EQ(Device("web").image, "");
  client = Client(nullptr);
  ASSERT_OK(store().Reset("web", false));
  EXPECT_EQ(Content("web"), "abcd");
  ASSERT_OK(store().RemoveDevice("web", false));
  ExpectLayerFilesSoon(IsEmpty());
  ExpectClean();
}

TEST_F(LayersTest, DeadBlocksOfAMergedLayerAreGivenBack) {
  Import("base", std::string(512, 'a'));
  ASSERT_OK(store().Create("base", "one", {}));
  ASSERT_OK(Connect("one").Fill(0, 500, 'b'));
  ASSERT_OK(store().Commit("one", "top", false));
  const uint64_t before_bytes = DiskBytesOfLayers();
  ASSERT_OK(store().RemoveImage("base", false));
  ExpectSoon([&] { return DiskBytesOfLayers(); }, Le(before_bytes - 490 * kBlockBytes));
  EXPECT_EQ(Content("top"), std::string(500, 'b') + std::string(12, 'a'));
  ExpectClean();
}

TEST_F(LayersTest, AnImageThatIsReadStaysReadableWhenItsTagMoves) {
  Import("base", "abcd");
  Import("other", "efgh");
  Client reader = Connect("base");
  ASSERT_OK(store().Tag("other", "base", true));
  EXPECT_EQ(LayerCount(), 2u);
  EXPECT_EQ(reader.At(2), 'c');
  reader = Client(nullptr);
  ASSERT_OK(store().CollectGarbage());
  EXPECT_EQ(LayerCount(), 1u);
  EXPECT_EQ(Content("base"), "efgh");
  ExpectClean();
}

TEST_F(LayersTest, FlattenedIsOneLayerThatReadsTheSame) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(1, 2, 'X'));
  ASSERT_OK(store().Commit("web", "top", false));
  const auto flat = store().Flatten("top", "flat", false, nullptr);
  ASSERT_OK(flat);
  EXPECT_EQ(Image("flat:latest").layer_count, 1);
  EXPECT_EQ(Image("flat:latest").stored_bytes, 4 * kBlockBytes);
  EXPECT_THAT(*store().Diff("flat", "top"), IsEmpty());
  ASSERT_OK(store().RemoveImage("top", false));
  ASSERT_OK(store().RemoveImage("base", false));
  Open();
  EXPECT_EQ(Content("flat"), "aXXd");
  ExpectClean();
  EXPECT_THAT(
      store().Flatten("flat", "again", false, [](uint64_t, uint64_t) { return false; }).status(),
      IsOk());
  ASSERT_OK(store().Create("flat", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 1, 'Q'));
  ASSERT_OK(store().Commit("web", "deep", false));
  const auto stop = [](uint64_t, uint64_t) { return false; };
  const absl::Status flatten = store().Flatten("deep", "stopped", false, stop).status();
  const absl::Status check = store().Check("", /*data=*/true, /*repair=*/false, stop).status();
  for (const absl::Status& stopped : {flatten, check}) {
    EXPECT_THAT(stopped, IsCode(absl::StatusCode::kCancelled));
    EXPECT_THAT(Message(stopped), StartsWith("stopped before"));  // the verb's name is put before
  }
  ExpectClean();
}

// What a flattened image shares with what it was made from is stored once, and removing either
// frees only what the other does not have.
TEST_F(LayersTest, WhatFlattenedLayersShareCountsOnce) {
  Import("base", "abcdefgh");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(1, 2, 'X'));
  ASSERT_OK(store().Commit("web", "top", false));
  ASSERT_OK(store().Flatten("top", "flat", false, nullptr));
  const auto usage = store().Usage();
  ASSERT_OK(usage);
  EXPECT_EQ(usage->total.stored_bytes, 10 * kBlockBytes);
  const auto reclaimable_blocks = [&](const std::string& name) {
    for (const SpaceInfo& image : usage->images) {
      if (image.name == name) return image.reclaimable_bytes / kBlockBytes;
    }
    ADD_FAILURE() << "no image " << name;
    return uint64_t{0};
  };
  EXPECT_EQ(reclaimable_blocks("flat:latest"), 0u);
  EXPECT_EQ(reclaimable_blocks("top:latest"), 0u);
  ASSERT_OK(store().RemoveImage("top", false));
  const auto left = store().Usage();
  ASSERT_OK(left);
  EXPECT_EQ(left->total.stored_bytes, 10 * kBlockBytes);
  ASSERT_OK(store().RemoveImage("base", false));
  ExpectSoon([&] { return store().Usage()->total.stored_bytes; }, 8 * kBlockBytes);
}

TEST_F(LayersTest, ADeviceStoresOnTheDiskWhatItsCloneFroze) {
  Import("base", "abcdefgh");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(1, 6, 'X'));
  ASSERT_OK(store().Clone("web", "twin"));
  for (const char* const name : {"web", "twin"}) {
    EXPECT_EQ(Device(name).stored_bytes, 6 * kBlockBytes);
    EXPECT_GE(Device(name).disk_bytes, 6 * kBlockBytes);
  }
  EXPECT_EQ(store().Usage()->total.stored_bytes, 14 * kBlockBytes);
}

TEST_F(LayersTest, RegisteringTakesAStagedLayer) {
  Import("base", "abcd");
  const std::string base = Image("base:latest").layer;
  const ImageInfo child = Import("child", "aX d", base);
  EXPECT_EQ(child.layer_count, 2);
  EXPECT_EQ(child.stored_bytes, 7 * kBlockBytes);
  EXPECT_EQ(Content("child"), "aXcd");
  EXPECT_THAT(Files("staging"), IsEmpty());
  const StagedLayer staged = Stage("zz");
  EXPECT_THAT(store().Register("base", staged, false), IsCode(absl::StatusCode::kAlreadyExists));
  EXPECT_TRUE(std::filesystem::exists(staged.path));
  ASSERT_OK(store().Register("base", staged, true));
  EXPECT_EQ(Content("base"), "zz");
  EXPECT_EQ(Content("child"), "aXcd");
  StagedLayer outside = Stage("q");
  std::filesystem::remove(std::exchange(outside.path, "/etc/passwd"));
  EXPECT_THAT(store().Register("evil", outside, false), IsCode(absl::StatusCode::kInvalidArgument));
  ExpectClean();
}

TEST_F(LayersTest, ASmallerLayerHidesTheEndOfItsParent) {
  Import("base", "abcdef");
  Import("small", "aX", Image("base:latest").layer);
  ASSERT_OK(store().Create("small", "web", {.size_bytes = 6 * kBlockBytes}));
  EXPECT_EQ(Content("web"), "aX0000");
  ExpectClean();
}

// Where the parent is larger, what hides its end would come before what the map ends with.
TEST_F(LayersTest, AStagedLayerThatGoesOnBeyondItsDiskIsRefused) {
  Import("base", "abcdef");
  const std::string base = Image("base:latest").layer;
  const StagedLayer staged = Stage("aX", base);
  auto loop = LoopThread::Start(IoBackend::kSync);
  ASSERT_OK(loop);
  const auto storage = (*loop)->loop().OpenStorage(directory_);
  const std::string name = std::filesystem::relative(staged.path, directory_);
  const auto layer = RunOn((*loop)->loop(), LoadLayerMap(*storage, name));
  ASSERT_OK(layer);
  const FileMap beyond{ExtentArray({Extent::Zero(0, 9, 0)}), (*layer)->map.files};
  ASSERT_OK(RunOn((*loop)->loop(), RewriteMap(*storage, name, beyond, *Uuid::Parse(base))));
  const auto registered = store().Register("small", staged, false);
  EXPECT_THAT(registered, IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(registered, SaysThat(staged.path));
  ASSERT_TRUE(std::filesystem::remove(staged.path));
  ExpectClean();
}

TEST_F(LayersTest, AFrozenStateStaysUntilItIsReleased) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, 1, 'X'));
  const auto view = store().Freeze("web", 0);
  ASSERT_OK(view);
  EXPECT_THAT(view->layers, SizeIs(2));
  EXPECT_EQ(view->size_bytes, 4 * kBlockBytes);
  client = Client(nullptr);
  ASSERT_OK(store().RemoveDevice("web", false));
  ASSERT_OK(store().RemoveImage("base", false));
  for (const LayerInfo& layer : view->layers) EXPECT_TRUE(std::filesystem::exists(layer.path));
  Open();  // its owner, this process, is alive
  for (const LayerInfo& layer : view->layers) EXPECT_TRUE(std::filesystem::exists(layer.path));
  ASSERT_OK(store().Release(view->token));
  ExpectLayerFilesSoon(IsEmpty());
  EXPECT_THAT(store().Release(view->token), IsCode(absl::StatusCode::kNotFound));
  ExpectClean();
}

TEST_F(LayersTest, AFrozenStateLivesAsLongAsItsReader) {
  Import("base", "abcd");
  const pid_t reader = fork();
  if (reader == 0) {
    execlp("sleep", "sleep", "1000", nullptr);  // no fork alone: that would hold the store's lock
    _exit(127);
  }
  ASSERT_GT(reader, 0);
  ASSERT_OK(store().Freeze("base", reader));
  ASSERT_OK(store().RemoveImage("base", false));
  Open();
  EXPECT_THAT(Files("layers"), SizeIs(1));
  kill(reader, SIGKILL);
  ASSERT_EQ(waitpid(reader, nullptr, 0), reader);
  Open();
  EXPECT_THAT(Files("layers"), IsEmpty());
}

TEST_F(LayersTest, MapSaysWhereEveryExtentComesFrom) {
  Import("base", "ab d");
  const std::string base = Image("base:latest").layer;
  ASSERT_OK(store().Create("base", "web", {.size_bytes = 5 * kBlockBytes}));
  Client client = Connect("web");
  ASSERT_OK(client.Fill(0, 1, 'X'));
  ASSERT_OK(client.Discard(1, 1));
  const auto map = store().Map("web");
  ASSERT_OK(map);
  ASSERT_THAT(*map, SizeIs(5));
  const auto expect = [&](size_t i, uint64_t block, uint64_t blocks, bool zero, uint32_t depth,
                          const std::string& layer) {
    EXPECT_EQ((*map)[i].offset_bytes, block * kBlockBytes) << i;
    EXPECT_EQ((*map)[i].length_bytes, blocks * kBlockBytes) << i;
    EXPECT_EQ((*map)[i].zero, zero) << i;
    EXPECT_EQ((*map)[i].depth, depth) << i;
    EXPECT_EQ((*map)[i].layer, layer) << i;
  };
  expect(0, 0, 1, false, 1, "");
  expect(1, 1, 1, true, 1, "");
  expect(2, 2, 1, true, 0, "");
  expect(3, 3, 1, false, 2, base);
  expect(4, 4, 1, true, 0, "");
  const auto diff = store().Diff("web", "");
  ASSERT_OK(diff);
  ASSERT_THAT(*diff, SizeIs(2));
  EXPECT_EQ((*diff)[0].offset_bytes, 0u);
  EXPECT_FALSE((*diff)[0].zero);
  EXPECT_EQ((*diff)[1].offset_bytes, kBlockBytes);
  EXPECT_TRUE((*diff)[1].zero);
  EXPECT_EQ(store().Map("base")->front().depth, 1u);
}

TEST_F(LayersTest, HistoryAndUsageCount) {
  Import("base", "abcd");
  ASSERT_OK(store().Create("base", "web", {}));
  ASSERT_OK(Connect("web").Fill(0, 3, 'X'));
  ASSERT_OK(store().Snapshot("web", "top", false));
  ASSERT_OK(Connect("web").Fill(0, 2, 'Y'));
  const auto history = store().History("top");
  ASSERT_OK(history);
  ASSERT_THAT(*history, SizeIs(2));
  EXPECT_EQ((*history)[0].stored_bytes, 3 * kBlockBytes);
  EXPECT_EQ((*history)[0].hidden_bytes, 0u);
  EXPECT_EQ((*history)[1].stored_bytes, 4 * kBlockBytes);
  EXPECT_EQ((*history)[1].hidden_bytes, 3 * kBlockBytes);
  EXPECT_EQ((*history)[1].created_by, "import");
  const auto usage = store().Usage();
  ASSERT_OK(usage);
  EXPECT_EQ(usage->total.stored_bytes, 9 * kBlockBytes);
  EXPECT_EQ(usage->total.logical_bytes, 12 * kBlockBytes);
  EXPECT_EQ(usage->total.reclaimable_bytes, 0u);
  ASSERT_THAT(usage->images, SizeIs(2));
  ASSERT_THAT(usage->devices, SizeIs(1));
  EXPECT_EQ(usage->devices[0].stored_bytes, 2 * kBlockBytes);
  EXPECT_GT(usage->host_total_bytes, usage->host_free_bytes);
  const auto inspect = store().Inspect("web");
  ASSERT_OK(inspect);
  EXPECT_THAT(inspect->layers, SizeIs(2));
  EXPECT_TRUE(std::filesystem::exists(inspect->overlay_path));
}

TEST_F(LayersTest, AVolumeBypassesCopyOnWrite) {
  ASSERT_OK(store().CreateVolume("db", 8 * kBlockBytes));
  EXPECT_EQ(Device("db").disk_bytes, 8 * kBlockBytes);
  ASSERT_OK(Connect("db").Fill(1, 2, 'v'));
  Open();
  EXPECT_EQ(Content("db"), "0vv00000");
  ASSERT_OK(Connect("db").Discard(1, 1));
  EXPECT_EQ(Content("db"), "00v00000");
  ASSERT_OK(store().Resize("db", 10 * kBlockBytes, false));
  EXPECT_EQ(Content("db"), "00v0000000");
  ASSERT_OK(store().Resize("db", 2 * kBlockBytes, true));
  EXPECT_EQ(Content("db"), "00");
  for (const absl::Status& status :
       {store().Reset("db", false), store().Snapshot("db", "x", false).status(),
        store().Commit("db", "x", false).status(), store().Clone("db", "x").status(),
        store().Diff("db", "").status()}) {
    EXPECT_THAT(status, IsCode(absl::StatusCode::kFailedPrecondition));
    EXPECT_THAT(status, SaysThat("volume"));
  }
  const auto map = store().Map("db");
  ASSERT_OK(map);
  ASSERT_THAT(*map, SizeIs(1));
  EXPECT_EQ(map->front().length_bytes, 2 * kBlockBytes);
  EXPECT_EQ(map->front().depth, 1u);
  ExpectClean();
  ASSERT_OK(store().RemoveDevice("db", false));
  EXPECT_THAT(Files("volumes"), IsEmpty());
}

}  // namespace
}  // namespace cowl
