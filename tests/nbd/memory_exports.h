// memory_exports.h: a table of disks in memory, each on one of a few loops: with the NBD server, a
// whole server without a store.
// Ownership: the table owns loops and disks; servers go before it.
// Threads: as ExportTable.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "device/export_table.h"
#include "device/memory_device.h"
#include "io/loop_thread.h"

namespace cowl {

class MemoryExports : public ExportTable {
 public:
  explicit MemoryExports(std::vector<std::unique_ptr<LoopThread>> threads)
      : threads_(std::move(threads)) {}

  static absl::StatusOr<std::unique_ptr<MemoryExports>> Make(IoBackend backend, int thread_count) {
    std::vector<std::unique_ptr<LoopThread>> threads;
    for (int i = 0; i < thread_count; ++i) {
      COWL_ASSIGN_OR_RETURN(auto thread, LoopThread::Start(backend, "disk-" + std::to_string(i)));
      threads.push_back(std::move(thread));
    }
    return std::make_unique<MemoryExports>(std::move(threads));
  }

  // Before the table is served.
  void Add(const std::string& name, const std::string& description,
           std::unique_ptr<BlockDevice> device) {
    auto disk = std::make_unique<Disk>();
    disk->name = name;
    disk->description = description;
    disk->device = std::move(device);
    disk->loop = &threads_[disks_.size() % threads_.size()]->loop();
    disks_[name] = std::move(disk);
  }
  void SetDefault(const std::string& name) { default_name_ = name; }

  IoLoop& loop_of(const std::string& name) { return *disks_.at(name)->loop; }

  // Who has the disk open, as they named themselves.
  std::multiset<std::string> users_of(const std::string& name) {
    std::lock_guard lock(mutex_);
    return disks_.at(name)->users;
  }
  // Sends every client of the disk away, as removing it by force does.
  void Disconnect(const std::string& name) {
    Disk* const disk = disks_.at(name).get();
    disk->loop->Post([disk] {
      for (const auto& disconnect : disk->disconnects) disconnect.second();
    });
  }

  absl::StatusOr<std::vector<Entry>> List() override {
    std::vector<Entry> entries;
    for (const auto& [name, disk] : disks_) entries.push_back({name, disk->description});
    return entries;
  }

  absl::StatusOr<std::shared_ptr<OpenExport>> Open(std::string_view name,
                                                   std::string_view client) override {
    const auto found = disks_.find(name.empty() ? default_name_ : std::string(name));
    if (found == disks_.end())
      return NotFound(name.empty() ? "there is no default export" : "there is no such export");
    return std::make_shared<Hold>(*this, *found->second, std::string(client));
  }

 private:
  struct Disk {
    std::string name;
    std::string description;
    std::unique_ptr<BlockDevice> device;
    IoLoop* loop = nullptr;
    std::multiset<std::string> users;                          // under the table's mutex
    std::map<const void*, std::function<void()>> disconnects;  // on the loop
  };

  class Hold : public OpenExport {
   public:
    Hold(MemoryExports& table, Disk& disk, std::string client)
        : table_(table), disk_(disk), client_(std::move(client)) {
      std::lock_guard lock(table_.mutex_);
      disk_.users.insert(client_);
    }
    ~Hold() override {
      if (disconnects_) {
        disk_.loop->Post([disk = &disk_, key = static_cast<const void*>(this)] {
          disk->disconnects.erase(key);
        });
      }
      std::lock_guard lock(table_.mutex_);
      disk_.users.erase(disk_.users.find(client_));
    }
    BlockDevice& device() override { return *disk_.device; }
    IoLoop& loop() override { return *disk_.loop; }
    const std::string& name() const override { return disk_.name; }
    const std::string& description() const override { return disk_.description; }
    void SetDisconnect(std::function<void()> disconnect) override {
      disconnects_ = true;
      disk_.disconnects[this] = std::move(disconnect);
    }

   private:
    MemoryExports& table_;
    Disk& disk_;
    const std::string client_;
    bool disconnects_ = false;
  };

  std::mutex mutex_;
  std::string default_name_ = "\xff none";
  std::map<std::string, std::unique_ptr<Disk>> disks_;
  std::vector<std::unique_ptr<LoopThread>> threads_;  // goes first: posted work looks at the disks
};

}  // namespace cowl
