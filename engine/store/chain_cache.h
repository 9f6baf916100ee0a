// chain_cache.h: chains of layers, loaded and merged once for all devices that sit on the same top
// layer. Threads: any but the loops; loading reads files and blocks. Ownership: whoever uses a
// chain keeps it alive; the cache holds none. Errors: DataLoss, NotFound and those of the files,
// with the layer's path. A chain in use stays right when layers of it are merged or deleted: its
// blocks are still there (reaper.h); only which layer they are said to come from grows old.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/rows.h"
#include "layer/layer.h"
#include "store/loop_pool.h"

namespace cowl {

class ChainCache {
 public:
  // `chain` as the catalog has it, top first. REQUIRES: nobody rewrites or removes layer files
  // meanwhile.
  absl::StatusOr<std::shared_ptr<const ChainMap>> Load(LoopSlot& slot,
                                                       const std::vector<LayerRow>& chain);
  // The next Load of a chain that holds `layer` reads files again.
  void Forget(const Uuid& layer);

 private:
  std::shared_ptr<const ChainMap> Find(std::span<const LayerRow> chain);

  std::mutex mutex_;
  std::unordered_map<Uuid, std::weak_ptr<const ChainMap>> by_top_;  // guarded by mutex_
};

// The maps of these layers, in order, validated against their rows.
absl::StatusOr<std::vector<std::shared_ptr<const LayerMap>>> LoadLayerMaps(
    LoopSlot& slot, const std::vector<LayerRow>& layers);

}  // namespace cowl
