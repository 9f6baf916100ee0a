// data_file_cache.h: the data files that the devices of one loop read from, opened once each.
// The only place that knows where a data file lives: a file of the store's directory today.
// Threads: one loop. Ownership: shared; a file nobody uses is closed when its last user lets go.
#pragma once

#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "base/uuid.h"
#include "io/file.h"
#include "layer/data_file.h"

namespace cowl {

class DataFileCache {
 public:
  explicit DataFileCache(Storage& storage) : storage_(storage) {}
  Task<absl::StatusOr<std::shared_ptr<DataFile>>> Get(Uuid id);

 private:
  Storage& storage_;
  absl::flat_hash_map<Uuid, std::weak_ptr<DataFile>, std::hash<Uuid>> files_;
};

}  // namespace cowl
