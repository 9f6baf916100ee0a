// store_rig.h: a store in a directory of its own, and disks opened in it as the NBD server opens
// them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/units.h"
#include "catalog/catalog.h"
#include "cowl/store.h"
#include "device/export_table.h"
#include "io/loop_thread.h"
#include "layer/layer_writer.h"
#include "store/disk.h"
#include "support/status_matchers.h"
#include "support/temp_directory.h"

namespace cowl {

// One client's disk.
class Client {
 public:
  explicit Client(std::shared_ptr<OpenExport> hold) : hold_(std::move(hold)) {}

  absl::Status Write(uint64_t offset_bytes, const std::string& text) {
    return RunOn(hold_->loop(), hold_->device().Write(offset_bytes, std::as_bytes(std::span(text)),
                                                      WriteOptions{}));
  }
  // `blocks` blocks full of `fill`.
  absl::Status Fill(uint64_t block, uint64_t blocks, char fill) {
    return Write(block * kBlockBytes, std::string(blocks * kBlockBytes, fill));
  }
  absl::StatusOr<std::string> Read(uint64_t offset_bytes, size_t length_bytes) {
    std::string text(length_bytes, '?');
    const absl::Status status = RunOn(
        hold_->loop(), hold_->device().Read(offset_bytes, std::as_writable_bytes(std::span(text))));
    if (!status.ok()) return status;
    return text;
  }
  // The byte that block `block` is full of; '?' when it is full of no one byte, '!' when reading
  // fails.
  char At(uint64_t block) {
    const auto text = Read(block * kBlockBytes, kBlockBytes);
    if (!text.ok()) {
      ADD_FAILURE() << text.status();
      return '!';
    }
    const bool even =
        std::all_of(text->begin(), text->end(), [&](char c) { return c == text->front(); });
    if (!even) return '?';
    return text->front() == '\0' ? '0' : text->front();
  }
  absl::Status Flush() { return RunOn(hold_->loop(), hold_->device().Flush()); }
  absl::Status Discard(uint64_t block, uint64_t blocks) {
    return RunOn(hold_->loop(), hold_->device().Discard(block * kBlockBytes, blocks * kBlockBytes,
                                                        WriteOptions{}));
  }
  BlockDevice& device() { return hold_->device(); }
  OpenExport& hold() { return *hold_; }

 private:
  std::shared_ptr<OpenExport> hold_;
};

// Space comes back on a thread of its own. A verb waits for that for two seconds; a slow machine
// gets more.
template <typename Condition>
bool Soon(Condition condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}
template <typename Get, typename Matcher>
void ExpectSoon(Get get, const Matcher& matcher) {
  const bool matches = Soon([&] { return ::testing::Value(get(), matcher); });
  if (matches) return;
  EXPECT_THAT(get(), matcher);
}
class StoreTest : public ::testing::Test {
 protected:
  StoreTest() : directory_(temp_ / "store") {}
  void SetUp() override {
    ASSERT_OK(Store::Init(directory_));
    Open();
  }

  void Open(bool read_only = false) {
    store_.reset();
    StoreOptions options;
    options.threads = 2;
    if (const char* const io = getenv("COWL_TEST_IO")) options.io = io;
    options.read_only = read_only;
    auto opened = Store::Open(directory_, options);
    ASSERT_OK(opened);
    store_ = *std::move(opened);
  }

  Store& store() { return *store_; }
  Client Connect(const std::string& name) {
    auto hold = store_->exports().Open(name, "test client");
    EXPECT_OK(hold) << name;
    if (!hold.ok()) abort();
    return Client(*std::move(hold));
  }

  // A layer file in the staging folder, as an import leaves it: `text[i]` fills block i; ' ' is
  // left out.
  StagedLayer Stage(const std::string& text, const std::string& parent = "",
                    uint64_t size_bytes = 0) {
    StagedLayer staged;
    const std::string name = "staging/" + std::to_string(++staged_count_) + ".cowl";
    staged.path = directory_ + "/" + name;
    staged.parent = parent;
    staged.created_by = "import";
    if (size_bytes == 0) size_bytes = text.size() * kBlockBytes;
    auto loop = LoopThread::Start(IoBackend::kSync);
    EXPECT_OK(loop);
    {
      auto storage = (*loop)->loop().OpenStorage(directory_);
      const Uuid parent_id = parent.empty() ? Uuid{} : *Uuid::Parse(parent);
      EXPECT_OK(RunOn((*loop)->loop(), WriteStaged(*storage, name, text, parent_id, size_bytes)));
    }
    return staged;
  }

  // An image whose block i is full of text[i].
  ImageInfo Import(const std::string& image, const std::string& text,
                   const std::string& parent = "") {
    const auto info = store_->Register(image, Stage(text, parent), false);
    EXPECT_OK(info);
    return info.value_or(ImageInfo{});
  }

  // What the disk reads as, a character a block.
  std::string Content(const std::string& name) {
    Client client = Connect(name);
    std::string text;
    for (uint64_t block = 0; block < client.device().size_bytes() / kBlockBytes; ++block)
      text += client.At(block);
    return text;
  }

  template <typename Matcher>
  void ExpectLayerFilesSoon(const Matcher& matcher) {
    ExpectSoon([&] { return Files("layers"); }, matcher);
  }

  std::vector<std::string> Files(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/" + folder)) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  uint64_t DiskBytesOfLayers() {
    uint64_t bytes = 0;
    for (const std::string& name : Files("layers")) {
      bytes += DiskBytesOf(directory_ + "/layers/" + name);
    }
    return bytes;
  }

  DeviceInfo Device(const std::string& name) {
    const auto devices = store_->Devices();
    EXPECT_OK(devices);
    for (const DeviceInfo& device : *devices) {
      if (device.name == name) return device;
    }
    ADD_FAILURE() << "no device " << name;
    return {};
  }

  // No errors, no leaks, with every block read; and gc has nothing to do.
  void ExpectClean() {
    const auto report = store_->Check("", true, false, nullptr);
    ASSERT_OK(report);
    for (const Finding& finding : report->errors)
      ADD_FAILURE() << finding.path << ": " << finding.message;
    for (const Finding& finding : report->leaks)
      ADD_FAILURE() << finding.path << ": " << finding.message;
    const auto freed = store_->CollectGarbage();
    ASSERT_OK(freed);
    EXPECT_EQ(*freed, 0u);
  }

  // The catalog of a store that is closed.
  template <typename Work>
  void EditCatalog(Work work) {
    auto catalog = Catalog::Open(directory_ + "/catalog.db", CatalogMode::kReadWrite);
    ASSERT_OK(catalog);
    ASSERT_OK((*catalog)->Write(work));
  }
  // On its files: `work(Loop&, Storage&)` is a task.
  template <typename Work>
  void OnFiles(Work work) {
    auto thread = LoopThread::Start(IoBackend::kSync);
    ASSERT_OK(thread);
    auto storage = (*thread)->loop().OpenStorage(directory_);
    EXPECT_OK(RunOn((*thread)->loop(), work((*thread)->loop(), *storage)));
  }

  TempDirectory temp_;
  const std::string directory_;
  std::unique_ptr<Store> store_;

 private:
  static Task<absl::Status> WriteStaged(Storage& storage, std::string name, std::string text,
                                        Uuid parent, uint64_t size_bytes) {
    LayerWriterOptions options;
    options.size_bytes = size_bytes;
    options.parent = parent;
    auto writer = LayerWriter::Create(storage, name, options);
    if (!writer.ok()) co_return writer.status();
    for (size_t block = 0; block < text.size(); ++block) {
      if (text[block] == ' ') continue;
      const std::string data(kBlockBytes, text[block] == '0' ? '\0' : text[block]);
      COWL_CO_RETURN_IF_ERROR(co_await (*writer)->Write(block, std::as_bytes(std::span(data))));
    }
    auto finished = co_await (*writer)->Finish();
    co_return finished.status();
  }

  int staged_count_ = 0;
};

}  // namespace cowl
