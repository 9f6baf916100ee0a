// hidden_space.h: gives back what a device has written over in a layer that only it reads; how, and
// why that is safe, is told in hidden_space.cc. Ownership: borrows the store, which has it.
// Threads: CheckSoon, CheckAllSoon and LostReader from any; the others where the reaper runs, on
// the worker. Errors: what fails is told in the log and tried again later.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "catalog/rows.h"
#include "layer/block_ranges.h"
#include "store/device_table.h"

namespace cowl {

class StoreImpl;

class HiddenSpace {
 public:
  // Space is to be back within two seconds of the discard that freed it.
  static constexpr std::chrono::milliseconds kQuiet{500};

  explicit HiddenSpace(StoreImpl& store) : store_(store) {}

  // An open device.
  void CheckSoon(const std::shared_ptr<DeviceEntry>& entry,
                 std::chrono::milliseconds delay = kQuiet);
  // After whatever may have made a device the only reader of a layer, or a layer its own.
  void CheckAllSoon();
  // REQUIRES: the device is open.
  absl::Status GiveBack(LockedDevice& device);

  // Who reads the layer may be one device alone by now.
  void LostReader(const Uuid& layer);
  // A device that is closed is looked at by nobody else before it is opened.
  void SettleOnLostReaders();
  // After a crash, too, and where a layer lost a reader that is none of the catalog's.
  void SettleAll();

 private:
  void Check(const std::shared_ptr<DeviceEntry>& entry);
  absl::StatusOr<std::optional<LayerRow>> ReadSoleBase(LockedDevice& device);
  absl::StatusOr<std::chrono::milliseconds> LookAt(LockedDevice& device);
  absl::Status Drop(LockedDevice& device, LayerRow layer, const BlockRanges& hidden);
  void SettleSoleReader(const std::string& name);

  StoreImpl& store_;
  std::mutex lost_readers_mutex_;
  std::set<Uuid> lost_readers_;  // guarded by lost_readers_mutex_
};

}  // namespace cowl
