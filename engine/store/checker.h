// checker.h: check and its repair: what the files of a store say, against each other, against the
// catalog and against their checksums, and what takes space for nobody. Ownership: borrows the
// store. Threads: one a Checker; the store goes on working beside it. Errors: those of the catalog;
// what is wrong with the store is a finding, not an error.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/status.h"
#include "base/uuid.h"
#include "catalog/rows.h"
#include "cowl/store.h"
#include "layer/layer.h"
#include "store/store_impl.h"

namespace cowl {

struct DamagedBlock {
  uint64_t block = 0;  // of its data file
  std::string message;
};

// One run: what it looks at, what it finds, how far it is. A loop fills it in while the checking
// thread waits for it.
struct CheckRun {
  bool data = false;
  Progress progress;
  uint64_t total_bytes = 0;
  CheckReport report;

  std::vector<Uuid> layers;
  std::vector<DeviceRow> devices;
  std::vector<Uuid> moved;  // overlays that were a device's no longer when their turn came

  std::map<Uuid, BlockRanges> live;  // what the maps name, by data file
  std::set<Uuid> unread;             // files that a layer names whose map cannot be read

  void Error(const std::string& path, uint64_t offset_bytes, const std::string& message) {
    report.errors.push_back({path, offset_bytes, message});
  }
  void Leak(const std::string& path, uint64_t offset_bytes, const std::string& message) {
    report.leaks.push_back({path, offset_bytes, message});
  }
  // Tells how far it is; not OK: the caller wants no more.
  absl::Status Pause() const {
    const uint64_t total = std::max(total_bytes, report.checked_bytes);
    if (!progress || progress(report.checked_bytes, total)) return absl::OkStatus();
    return absl::CancelledError("stopped before it was complete");
  }
};

// What is read between two looks at whether to go on, and while a device is kept from others.
inline constexpr uint64_t kCheckPieceBlocks = 4096;

class Checker {
 public:
  // `data`: every block against its checksum, too.
  Checker(StoreImpl& store, bool data, const Progress& progress) : store_(store) {
    run_.data = data;
    run_.progress = progress;
  }
  // All of the store, or what image or device `name` is made of. Cancelled when `progress` says so.
  absl::StatusOr<CheckReport> Run(const std::string& name, bool repair);

 private:
  struct DeviceCheck;

  // check.cc
  absl::Status CheckCatalog(const std::string& name);
  absl::Status CheckLayers(const std::vector<Uuid>& layers);
  absl::Status CheckLayer(LoopSlot& slot, const Uuid& id, std::map<Uuid, BlockRanges>& live);
  absl::StatusOr<std::string> NamesBuiltOn(const Uuid& layer);
  absl::Status CheckDataFile(LoopSlot& slot, const Uuid& file, const BlockRanges& ranges);
  void ReportDamage(LoopSlot& slot, const Uuid& file, const std::vector<DamagedBlock>& bad);
  absl::Status CheckUnrecordedLayer(LoopSlot& slot, const Uuid& id);
  absl::Status Repair();

  // check_devices.cc
  absl::Status CheckDevice(const DeviceRow& listed);
  absl::Status CheckDevicePiece(DeviceCheck& check);
  absl::StatusOr<LockedDevice> LockListed(const DeviceRow& listed);
  absl::Status CheckClosedPiece(const DeviceRow& row, DeviceCheck& check);
  absl::Status KeepOverlay(const DeviceRow& row, DeviceCheck& check);
  void DropOverlay(DeviceCheck& check);
  absl::Status CheckPending(const DeviceRow& row);

  // check_leaks.cc
  absl::Status CheckLeaks();
  absl::Status FindUnnamedFiles();
  absl::Status AddNamedPaths(std::unordered_set<std::string>& named);
  absl::Status FindDeadBlocks(const Uuid& file, BlockRanges live);

  StoreImpl& store_;
  CheckRun run_;
};

}  // namespace cowl
