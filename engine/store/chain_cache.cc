#include "store/chain_cache.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

using LayerMaps = std::vector<std::shared_ptr<const LayerMap>>;

absl::Status CheckAgainstRow(const LayerMap& map, const LayerRow& row) {
  if (map.superblock.id == row.id) return absl::OkStatus();
  return DataLoss(absl::StrCat(DataFileName(row.id), ": holds layer ", map.superblock.id.ToString(),
                               ", another than its name says"));
}

Task<absl::StatusOr<LayerMaps>> LoadAll(Storage& storage, std::vector<LayerRow> layers) {
  LayerMaps maps;
  for (const LayerRow& row : layers) {
    absl::StatusOr<std::shared_ptr<const LayerMap>> map = co_await LoadLayerMap(storage, DataFileName(row.id));
    if (!map.ok()) co_return map.status();
    COWL_CO_RETURN_IF_ERROR(CheckAgainstRow(**map, row));
    maps.push_back(*std::move(map));
  }
  co_return maps;
}

}  // namespace

absl::StatusOr<LayerMaps> LoadLayerMaps(LoopSlot& slot, const std::vector<LayerRow>& layers) {
  return RunOn(slot.loop(), LoadAll(*slot.storage, layers));
}

absl::StatusOr<std::shared_ptr<const ChainMap>> ChainCache::Load(LoopSlot& slot, const std::vector<LayerRow>& chain) {
  const Uuid top = chain.empty() ? Uuid{} : chain.front().id;
  {
    std::lock_guard lock(mutex_);
    if (const auto found = by_top_.find(top); found != by_top_.end()) {
      if (auto known = found->second.lock()) return known;
    }
  }
  // Two that load the same chain at once both read it; the later one's is kept.
  COWL_ASSIGN_OR_RETURN(const LayerMaps maps, LoadLayerMaps(slot, chain));
  COWL_ASSIGN_OR_RETURN(std::shared_ptr<const ChainMap> loaded, MergeChain(maps));
  std::lock_guard lock(mutex_);
  std::erase_if(by_top_, [](const auto& entry) { return entry.second.expired(); });
  by_top_[top] = loaded;
  return loaded;
}

void ChainCache::Forget(const Uuid& layer) {
  std::lock_guard lock(mutex_);
  std::erase_if(by_top_, [&](const auto& entry) {
    const std::shared_ptr<const ChainMap> chain = entry.second.lock();
    return chain == nullptr || std::find(chain->layers.begin(), chain->layers.end(), layer) != chain->layers.end();
  });
}

}  // namespace cowl
