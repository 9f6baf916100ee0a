// device_table.h: the devices that verbs work on or clients have open, by name.
// Threads: any but the loops, where nothing may block. Each device has a gate: whoever changes,
// opens or closes it holds that. Ownership: a Disk is open until it is closed through the store
// (store_impl.h); an entry lives for as long as somebody has it.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "catalog/rows.h"
#include "device/block_device.h"
#include "store/loop_pool.h"
#include "store/reaper.h"
#include "store/users.h"

namespace cowl {

class CowDevice;
class RawDevice;

// A disk that is open, on one loop.
struct Disk {
  LoopSlot* slot = nullptr;
  std::unique_ptr<BlockDevice> device;  // used and destroyed on the loop
  CowDevice* cow = nullptr;             // the same, where it is a copy-on-write device
  RawDevice* raw = nullptr;             // or a volume
  HeldLayers::Hold hold;                // of an image: keeps its layer
  UniqueFd volume_lock;                 // of a volume: nobody reads its file as it is on the disk
};

// What looks at what a device hides have found; see hidden_space.cc.
struct HiddenWatch {
  uint64_t seen_version = UINT64_MAX;  // at the last look
  uint64_t hidden_blocks = 0;
  std::chrono::steady_clock::time_point next_attempt;  // to give back, not before
};

struct DeviceEntry {
  std::mutex gate;
  // Guarded by gate.
  std::string name;            // of the device
  std::shared_ptr<Disk> disk;  // null: closed
  HiddenWatch hidden;

  std::atomic<bool> check_is_due = false;  // HiddenSpace::Check is posted
  UserList users;
};

// A device whose gate is held.
struct LockedDevice {
  std::shared_ptr<DeviceEntry> entry;
  std::unique_lock<std::mutex> gate;
  DeviceRow row;
};

class DeviceTable {
 public:
  // Waits for the gate. The row is not filled in.
  LockedDevice Lock(const std::string& name);
  // The entry follows its device to another name, or is forgotten with it. REQUIRES: the gate is
  // held.
  void Rename(const std::string& old_name, const std::string& new_name);
  void Erase(const std::string& name);
  // Those that are known by now, to be asked without their gate; null when there is none.
  std::shared_ptr<DeviceEntry> Find(const std::string& name);
  std::vector<std::string> Names();

 private:
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<DeviceEntry>> entries_;  // guarded by mutex_
};

}  // namespace cowl
