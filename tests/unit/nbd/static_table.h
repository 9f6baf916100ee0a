// static_table.h: disks in memory by name, for tests that need no loop.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "device/export_table.h"
#include "device/memory_device.h"

namespace cowl {

// The loop of a disk that never has to wait: everything runs at once, where it was called.
class AtOnceLoop final : public IoLoop {
 public:
  void Post(std::function<void()> work) override { work(); }
  bool OnLoop() const override { return true; }
  void ResumeAfter(std::chrono::nanoseconds, std::coroutine_handle<>) override { Fail(); }
  void RunAside(std::function<void()>, std::coroutine_handle<>) override { Fail(); }
  void Run() override { Fail(); }
  void Stop() override { Fail(); }
  std::unique_ptr<Stream> WrapStream(UniqueFd) override { Fail(); }
  std::unique_ptr<Stream> WrapStreamPair(UniqueFd, UniqueFd) override { Fail(); }
  std::unique_ptr<Listener> WrapListener(UniqueFd) override { Fail(); }
  std::unique_ptr<Storage> OpenStorage(const std::string&) override { Fail(); }

 private:
  [[noreturn]] static void Fail() {
    COWL_CHECK(false);
    std::abort();
  }
};

class StaticTable : public ExportTable {
 public:
  struct Disk {
    std::string name;
    std::string description;
    MemoryDevice device;
    int open_count = 0;
    int opened_count = 0;
  };

  void Add(const std::string& name, const std::string& description, uint64_t size_bytes,
           bool read_only = false) {
    disks_.emplace(
        name, std::make_unique<Disk>(Disk{name, description, MemoryDevice(size_bytes, read_only)}));
  }
  Disk& disk(const std::string& name) { return *disks_.at(name); }
  void FailWith(absl::Status failure) { failure_ = std::move(failure); }
  const std::string& last_client() const { return last_client_; }

  absl::StatusOr<std::vector<Entry>> List() override {
    if (!failure_.ok()) return failure_;
    std::vector<Entry> entries;
    for (const auto& [name, disk] : disks_) entries.push_back({name, disk->description});
    return entries;
  }

  absl::StatusOr<std::shared_ptr<OpenExport>> Open(std::string_view name,
                                                   std::string_view client) override {
    last_client_ = client;
    if (!failure_.ok()) return failure_;
    const auto found = disks_.find(std::string(name));
    if (found == disks_.end()) return NotFound("there is no such export");
    return std::make_shared<Hold>(*found->second, loop_);
  }

 private:
  class Hold : public OpenExport {
   public:
    Hold(Disk& disk, IoLoop& loop) : disk_(disk), loop_(loop) {
      ++disk_.open_count;
      ++disk_.opened_count;
    }
    ~Hold() override { --disk_.open_count; }
    BlockDevice& device() override { return disk_.device; }
    IoLoop& loop() override { return loop_; }
    const std::string& name() const override { return disk_.name; }
    const std::string& description() const override { return disk_.description; }
    void SetDisconnect(std::function<void()>) override {}

   private:
    Disk& disk_;
    IoLoop& loop_;
  };

  AtOnceLoop loop_;

  std::map<std::string, std::unique_ptr<Disk>> disks_;
  absl::Status failure_;
  std::string last_client_;
};

}  // namespace cowl
