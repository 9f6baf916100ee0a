// check_run.h: one run of check: what it looks at, what it finds, how far it is. Threads: one; a
// loop fills it in while that thread waits for it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/uuid.h"
#include "catalog/rows.h"
#include "cowl/store.h"
#include "layer/layer.h"

namespace cowl {

struct DamagedBlock {
  uint64_t block = 0;  // of its data file
  std::string message;
};

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
  std::set<Uuid> bad_layers;         // cannot be used at all

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

}  // namespace cowl
