// What a crash leaves: devices whose overlay was being sealed, at every step of it; processes that
// were killed in the middle of everything; layers that were half merged.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "catalog/catalog.h"
#include "overlay/overlay.h"
#include "store_rig.h"

namespace cowl {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

using OverlayOr = absl::StatusOr<std::unique_ptr<Overlay>>;

// The steps of sealing, taken by hand on the files of a store that is closed.
class RecoveryTest : public StoreTest {
 protected:
  // A device "web" on "abcd" whose block 1 is X, closed in order.
  void MakeDevice() {
    Import("base", "abcd");
    ASSERT_OK(store().Create("base", "web", {}));
    ASSERT_OK(Connect("web").Fill(1, 1, 'X'));
    store_.reset();
    row_ = Row();
  }
  DeviceRow Row() {
    auto catalog = Catalog::Open(directory_ + "/catalog.db", CatalogMode::kReadNothing);
    EXPECT_OK(catalog);
    DeviceRow row;
    EXPECT_OK((*catalog)->Read([&](CatalogQueries& queries) -> absl::Status {
      COWL_ASSIGN_OR_RETURN(row, queries.FindDevice("web"));
      return absl::OkStatus();
    }));
    return row;
  }
  Uuid NotePending(bool written) {
    const Uuid successor = Uuid::Random();
    EditCatalog([&](CatalogEdits& edits) -> absl::Status {
      DeviceRow row = row_;
      row.pending_overlay = successor;
      row.pending_written = written;
      return edits.UpdateDevice(row);
    });
    return successor;
  }
  // As it is, what the crash left is no error and no leak: that is for the next writer to mend.
  void ExpectNothingFoundYet() {
    Open(/*read_only=*/true);
    const auto report = store().Check("", true, false, nullptr);
    ASSERT_OK(report);
    for (const Finding& finding : report->errors)
      ADD_FAILURE() << finding.path << ": " << finding.message;
    for (const Finding& finding : report->leaks)
      ADD_FAILURE() << finding.path << ": " << finding.message;
  }
  void ExpectMended(const std::string& content) {
    ExpectNothingFoundYet();
    Open();
    EXPECT_EQ(Content("web"), content);
    EXPECT_TRUE(Row0().pending_overlay.IsNil());
    ASSERT_OK(Connect("web").Fill(3, 1, 'N'));
    ASSERT_OK(store().Snapshot("web", "after", false));
    EXPECT_EQ(Content("after"), content.substr(0, 3) + "N");
    EXPECT_EQ(Content("base"), "abcd");
    ExpectClean();
  }
  DeviceRow Row0() {
    store_.reset();
    const DeviceRow row = Row();
    Open();
    return row;
  }

  DeviceRow row_;
};

Task<absl::Status> SealByHand(Loop& loop, Storage& storage, Uuid id, Uuid parent) {
  OverlayOr overlay = co_await Overlay::Open(loop, storage, id, OpenMode::kReadWrite, false);
  if (!overlay.ok()) co_return overlay.status();
  COWL_CO_RETURN_IF_ERROR(co_await (*overlay)->PrepareToAppend());
  co_return co_await (*overlay)->SealToLayer(4 * kBlockBytes, parent, "by hand");
}

// Switches to a successor as a snapshot does, writes a block to it where asked, and stops there, as
// a killed process would.
Task<absl::Status> SwitchByHand(Loop& loop, Storage& storage, Uuid id, Uuid successor_id,
                                bool write) {
  OverlayOr overlay = co_await Overlay::Open(loop, storage, id, OpenMode::kReadWrite, false);
  if (!overlay.ok()) co_return overlay.status();
  COWL_CO_RETURN_IF_ERROR(co_await (*overlay)->PrepareToAppend());
  const Overlay::NewOptions options{successor_id, id, 4 * kBlockBytes};
  OverlayOr successor = co_await Overlay::Create(loop, storage, options);
  if (!successor.ok()) co_return successor.status();
  absl::StatusOr<SealMark> mark = co_await (*overlay)->Seal(successor_id);
  if (!mark.ok()) co_return mark.status();
  COWL_CO_RETURN_IF_ERROR(co_await (*successor)->Continue(*mark));
  const std::string block(kBlockBytes, 'Y');
  if (write)
    COWL_CO_RETURN_IF_ERROR(co_await (*successor)->Write(2, std::as_bytes(std::span(block))));
  co_await (*overlay)->EndBackground();
  co_await (*successor)->EndBackground();
  co_return absl::OkStatus();
}

TEST_F(RecoveryTest, ASealThatHadOnlyBeenNotedIsForgotten) {
  MakeDevice();
  NotePending(false);
  ExpectMended("aXcd");
}

TEST_F(RecoveryTest, ASealedFileIsRecordedAsTheLayerItIs) {
  MakeDevice();
  NotePending(false);
  OnFiles([&](Loop& loop, Storage& storage) {
    return SealByHand(loop, storage, row_.overlay, row_.base_layer);
  });
  ExpectMended("aXcd");
}

TEST_F(RecoveryTest, ASuccessorThatWasNeverMadeIsForgotten) {
  MakeDevice();
  NotePending(true);
  ExpectMended("aXcd");
}

TEST_F(RecoveryTest, ASuccessorThatWasHalfMadeIsForgotten) {
  MakeDevice();
  const Uuid successor = NotePending(true);
  {
    std::ofstream(directory_ + "/layers/" + successor.ToString() + ".cowl") << "half a superblock";
  }
  ExpectMended("aXcd");
}

TEST_F(RecoveryTest, ASuccessorThatTookOverGoesForward) {
  MakeDevice();
  const Uuid successor = NotePending(true);
  OnFiles([&](Loop& loop, Storage& storage) {
    return SwitchByHand(loop, storage, row_.overlay, successor, false);
  });
  ExpectMended("aXcd");
}

TEST_F(RecoveryTest, WhatASuccessorHoldsIsKept) {
  MakeDevice();
  const Uuid successor = NotePending(true);
  OnFiles([&](Loop& loop, Storage& storage) {
    return SwitchByHand(loop, storage, row_.overlay, successor, true);
  });
  ExpectMended("aXYd");
}

TEST_F(RecoveryTest, ASuccessorThatIsGoneIsDamageAndKeepsTheRestOpen) {
  MakeDevice();
  NotePending(true);
  OnFiles([&](Loop& loop, Storage& storage) {
    return SealByHand(loop, storage, row_.overlay, row_.base_layer);
  });
  for (const bool read_only : {true, false}) {
    Open(read_only);
    EXPECT_THAT(store().Check("", false, false, nullptr)->errors, SizeIs(1));
  }
  EXPECT_THAT(store().exports().Open("web", "me"), IsCode(absl::StatusCode::kDataLoss));
  EXPECT_THAT(store().Snapshot("web", "x", false), IsCode(absl::StatusCode::kDataLoss));
  EXPECT_EQ(Content("base"), "abcd");
  ASSERT_OK(store().Reset("web", false));
  EXPECT_EQ(Content("web"), "abcd");
}

TEST_F(RecoveryTest, AnOverlayThatIsGoneIsAnErrorAndNeverEmpty) {
  MakeDevice();
  std::filesystem::remove(directory_ + "/layers/" + row_.overlay.ToString() + ".cowl");
  Open();
  EXPECT_THAT(store().exports().Open("web", "me"), IsCode(absl::StatusCode::kNotFound));
  const auto report = store().Check("", false, false, nullptr);
  ASSERT_OK(report);
  EXPECT_THAT(report->errors, SizeIs(1));
  EXPECT_OK(store().Devices());
}

TEST_F(RecoveryTest, AFlippedBitIsFoundAndNamed) {
  MakeDevice();
  const std::string path = directory_ + "/layers/" + row_.base_layer.ToString() + ".cowl";
  const int fd = ::open(path.c_str(), O_RDWR);
  std::string file(static_cast<size_t>(std::filesystem::file_size(path)), '\0');
  ASSERT_EQ(::pread(fd, file.data(), file.size(), 0), static_cast<ssize_t>(file.size()));
  const size_t at = file.find(std::string(kBlockBytes, 'c'));
  ASSERT_NE(at, std::string::npos);
  ASSERT_EQ(::pwrite(fd, "C", 1, static_cast<off_t>(at + 100)), 1);
  ::close(fd);
  Open();
  EXPECT_THAT(Connect("web").Read(2 * kBlockBytes, kBlockBytes),
              IsCode(absl::StatusCode::kDataLoss));
  EXPECT_EQ(Connect("web").At(3), 'd');
  EXPECT_THAT(store().Check("", false, false, nullptr)->errors, IsEmpty());
  const auto report = store().Check("base", true, false, nullptr);
  ASSERT_OK(report);
  ASSERT_THAT(report->errors, SizeIs(1));
  EXPECT_EQ(report->errors[0].path, path);
  EXPECT_EQ(report->errors[0].offset_bytes, at);
}

class LostLayerTest : public RecoveryTest {
 protected:
  // Images base and other, and device web and image top on base. Returns the file of base's layer.
  std::string MakeImagesAndClose() {
    Import("base", "abcd");
    Import("other", "efgh");
    EXPECT_OK(store().Create("base", "web", {}));
    EXPECT_OK(Connect("web").Fill(1, 1, 'X'));
    EXPECT_OK(store().Snapshot("web", "top", false));
    const std::string path = store().Inspect("base")->layers[0].path;
    store_.reset();
    return path;
  }
};

// The file system that holds the layers may not be mounted, or a file may come back from a backup.
TEST_F(LostLayerTest, IsReportedAndWhatIsBuiltOnItKept) {
  const std::string path = MakeImagesAndClose();
  std::filesystem::rename(path, temp_ / "away");
  Open();
  EXPECT_THAT(store().exports().Open("base", "me"), testing::Not(IsOk()));
  const auto report = store().Check("", false, /*repair=*/true, nullptr);
  ASSERT_OK(report);
  ASSERT_THAT(report->errors, testing::Not(IsEmpty()));
  EXPECT_EQ(report->errors[0].path, path);
  EXPECT_THAT(report->errors[0].message,
              testing::HasSubstr("image base:latest, image top:latest, device web"));
  (void)store().CollectGarbage();
  EXPECT_THAT(*store().Images(), SizeIs(3));
  EXPECT_EQ(Content("other"), "efgh");
  store_.reset();
  std::filesystem::rename(temp_ / "away", path);
  Open();
  EXPECT_EQ(Content("top"), "aXcd");
  EXPECT_EQ(Content("web"), "aXcd");
  ExpectClean();
}

TEST_F(LostLayerTest, LetsWhatIsBuiltOnItBeRemoved) {
  const std::string path = MakeImagesAndClose();
  std::filesystem::remove(path);
  Open();
  ASSERT_OK(store().RemoveImage("base", false));
  ASSERT_OK(store().RemoveImage("top", false));
  ASSERT_OK(store().RemoveDevice("web", false));
  ASSERT_OK(store().CollectGarbage());
  EXPECT_THAT(Files("layers"), SizeIs(1));
  EXPECT_EQ(Content("other"), "efgh");
  ExpectClean();
}

// What a child that is killed tells its parent: per block, the last write that was answered, and
// the one it was at.
struct Acknowledged {
  static constexpr int kBlocks = 64;
  std::atomic<uint32_t> answered[kBlocks];
  std::atomic<uint32_t> asked[kBlocks];
  std::atomic<uint32_t> verbs;
};

void FillWithNumber(std::string& block, uint32_t number) {
  for (size_t at = 0; at < block.size(); at += sizeof(number))
    std::memcpy(block.data() + at, &number, sizeof(number));
}

[[noreturn]] void WriteAndSnapshotUntilKilled(const std::string& directory,
                                              Acknowledged& acknowledged, unsigned seed) {
  StoreOptions options;
  options.threads = 2;
  auto store = Store::Open(directory, options);
  if (!store.ok()) _exit(3);
  auto hold = (*store)->exports().Open("web", "child");
  if (!hold.ok()) _exit(4);
  std::thread verbs([&] {
    for (int i = 0;; ++i) {
      const std::string name = "s" + std::to_string(i % 4);
      bool ok = true;
      if (i % 3 == 0) ok = (*store)->Snapshot("web", name, true).ok();
      if (i % 3 == 1) ok = (*store)->Clone("web", "").ok();
      if (i % 3 == 2) ok = (*store)->CreateEmpty("", {.size_bytes = kMiB}).ok();
      if (!ok) _exit(5);
      ++acknowledged.verbs;
    }
  });
  std::mt19937 random(seed);
  std::string block(kBlockBytes, '\0');
  while (true) {
    const uint32_t at = random() % Acknowledged::kBlocks;
    const uint32_t number = acknowledged.answered[at] + 1;
    acknowledged.asked[at] = number;
    FillWithNumber(block, number);
    Client client(*hold);
    if (!client.Write(at * kBlockBytes, block).ok()) _exit(6);
    acknowledged.answered[at] = number;
  }
}

TEST(KilledStoreTest, LosesNoAnsweredWriteAndIsClean) {
  TempDirectory temp;
  const std::string directory = temp / "store";
  ASSERT_OK(Store::Init(directory));
  {
    auto store = Store::Open(directory, {});
    ASSERT_OK(store);
    ASSERT_OK((*store)->CreateEmpty("web", {.size_bytes = Acknowledged::kBlocks * kBlockBytes}));
  }
  void* const shared = ::mmap(nullptr, sizeof(Acknowledged), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& acknowledged = *new (shared) Acknowledged();
  for (unsigned round = 0; round < 12; ++round) {
    const pid_t child = ::fork();
    if (child == 0) WriteAndSnapshotUntilKilled(directory, acknowledged, round);
    std::this_thread::sleep_for(std::chrono::milliseconds(120 + 37 * round));
    for (int i = 0; i < 6000 && acknowledged.verbs <= round; ++i)  // a slow machine, or a sanitizer
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << WEXITSTATUS(status);
    auto store = Store::Open(directory, {});
    ASSERT_OK(store);
    const auto report = (*store)->Check("", true, false, nullptr);
    ASSERT_OK(report);
    for (const Finding& finding : report->errors)
      ADD_FAILURE() << finding.path << ": " << finding.message;
    EXPECT_THAT(report->leaks, IsEmpty());
    Client client(*(*store)->exports().Open("web", "parent"));
    for (uint32_t at = 0; at < Acknowledged::kBlocks; ++at) {
      const auto text = client.Read(at * kBlockBytes, kBlockBytes);
      ASSERT_OK(text);
      uint32_t number;
      std::memcpy(&number, text->data(), sizeof(number));
      std::string whole(kBlockBytes, '\0');
      FillWithNumber(whole, number);
      EXPECT_EQ(*text, whole) << "block " << at << " is torn";
      EXPECT_GE(number, acknowledged.answered[at])
          << "block " << at << " lost an answered write, round " << round;
      EXPECT_LE(number, acknowledged.asked[at]);
      acknowledged.answered[at] = number;
    }
    // What a kill leaves is for gc, once: a map that was replaced, say, and not punched out yet.
    ASSERT_OK((*store)->CollectGarbage());
    EXPECT_EQ((*store)->CollectGarbage().value_or(1), 0u);
  }
  EXPECT_GE(acknowledged.verbs, 12u);
  ::munmap(shared, sizeof(Acknowledged));
}

}  // namespace
}  // namespace cowl
