// exports.h: every image and device of a store as the NBD server sees them: `NAME:TAG` (bare NAME:
// latest), read-only, and `NAME`. Threads: any but the store's own loops: opening waits for one of
// them. Ownership: what Open returned must be gone before the store.
#pragma once

#include <mutex>
#include <string>

#include "device/export_table.h"

namespace cowl {

class StoreImpl;

class StoreExports : public ExportTable {
 public:
  explicit StoreExports(StoreImpl& store) : store_(store) {}

  absl::StatusOr<std::vector<Entry>> List() override;
  absl::StatusOr<std::shared_ptr<OpenExport>> Open(std::string_view name,
                                                   std::string_view client) override;
  void SetDefault(const std::string& name);

 private:
  absl::StatusOr<std::shared_ptr<OpenExport>> OpenDeviceExport(const std::string& name,
                                                               const std::string& client);
  absl::StatusOr<std::shared_ptr<OpenExport>> OpenImageExport(const std::string& name,
                                                              const std::string& client);

  StoreImpl& store_;
  std::mutex mutex_;
  std::string default_name_;  // guarded by mutex_
};

}  // namespace cowl
