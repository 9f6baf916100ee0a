#include "store/chain_cache.h"

#include <algorithm>
#include <span>

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
    absl::StatusOr<std::shared_ptr<const LayerMap>> map =
        co_await LoadLayerMap(storage, DataFileName(row.id));
    if (!map.ok()) co_return map.status();
    COWL_CO_RETURN_IF_ERROR(CheckAgainstRow(**map, row));
    maps.push_back(*std::move(map));
  }
  co_return maps;
}

bool IsChain(const ChainMap& map, std::span<const LayerRow> rows) {
  return std::equal(map.layers.begin(), map.layers.end(), rows.begin(), rows.end(),
                    [](const Uuid& id, const LayerRow& row) { return id == row.id; });
}

// `top` over the merged chain below it: what a snapshot makes, without reading that chain's layers
// again. Null when the merged map would name too many sources (MergeChain says so better).
std::shared_ptr<const ChainMap> ChainOver(const LayerMap& top, const ChainMap& below) {
  auto chain = std::make_shared<ChainMap>();
  chain->layers = {top.superblock.id};
  chain->layers.insert(chain->layers.end(), below.layers.begin(), below.layers.end());
  chain->files = top.map.files;
  std::vector<uint32_t> top_sources;
  for (uint32_t i = 0; i < top.map.files.size(); ++i) {
    chain->sources.push_back({0, i});
    top_sources.push_back(i);
  }
  std::vector<uint32_t> file_index;
  for (const Uuid& file : below.files) {
    const auto found = std::find(chain->files.begin(), chain->files.end(), file);
    file_index.push_back(static_cast<uint32_t>(found - chain->files.begin()));
    if (found == chain->files.end()) chain->files.push_back(file);
  }
  std::vector<uint32_t> below_sources;
  for (const ChainMap::Source& source : below.sources) {
    below_sources.push_back(static_cast<uint32_t>(chain->sources.size()));
    chain->sources.push_back({source.layer_index + 1, file_index[source.file_index]});
  }
  if (chain->sources.size() > Extent::kSourceLimit) return nullptr;
  chain->extents =
      MergeExtents(top.map.extents.extents(), top_sources, below.extents.extents(), below_sources);
  return chain;
}

}  // namespace

absl::StatusOr<LayerMaps> LoadLayerMaps(LoopSlot& slot, const std::vector<LayerRow>& layers) {
  return RunOn(slot.loop(), LoadAll(*slot.storage, layers));
}

absl::StatusOr<std::shared_ptr<const ChainMap>> ChainCache::Load(
    LoopSlot& slot, const std::vector<LayerRow>& chain) {
  if (std::shared_ptr<const ChainMap> known = Find(chain)) return known;
  // Two that load the same chain at once both read it; the later one's is kept.
  std::shared_ptr<const ChainMap> loaded;
  if (const auto below = chain.size() > 1 ? Find(std::span(chain).subspan(1)) : nullptr) {
    COWL_ASSIGN_OR_RETURN(const LayerMaps maps, LoadLayerMaps(slot, {chain.front()}));
    loaded = ChainOver(*maps.front(), *below);
  }
  if (loaded == nullptr) {
    COWL_ASSIGN_OR_RETURN(const LayerMaps maps, LoadLayerMaps(slot, chain));
    COWL_ASSIGN_OR_RETURN(loaded, MergeChain(maps));
  }
  const Uuid top = chain.empty() ? Uuid{} : chain.front().id;
  std::lock_guard lock(mutex_);
  std::erase_if(by_top_, [](const auto& entry) { return entry.second.expired(); });
  by_top_[top] = loaded;
  return loaded;
}

// The chain as it is kept, when it is still the one that the catalog has.
std::shared_ptr<const ChainMap> ChainCache::Find(std::span<const LayerRow> chain) {
  std::lock_guard lock(mutex_);
  const auto found = by_top_.find(chain.empty() ? Uuid{} : chain.front().id);
  std::shared_ptr<const ChainMap> known = found == by_top_.end() ? nullptr : found->second.lock();
  return known != nullptr && IsChain(*known, chain) ? known : nullptr;
}

void ChainCache::Forget(const Uuid& layer) {
  std::lock_guard lock(mutex_);
  std::erase_if(by_top_, [&](const auto& entry) {
    const std::shared_ptr<const ChainMap> chain = entry.second.lock();
    return chain == nullptr ||
           std::find(chain->layers.begin(), chain->layers.end(), layer) != chain->layers.end();
  });
}

}  // namespace cowl
