#include "store/shared_data.h"

#include "base/units.h"
#include "store/chain_cache.h"

namespace cowl {

void AddRanges(const FileMap& map, RangesByFile& ranges) {
  for (const Extent& extent : map.extents.extents()) {
    if (!extent.is_data()) continue;
    ranges[map.files[extent.source()]].emplace_back(extent.physical(),
                                                    extent.physical() + extent.length());
  }
}

SharedData::SharedData(LoopSlot& slot, const std::vector<LayerRow>& layers,
                       const std::unordered_map<Uuid, std::vector<Uuid>>& files) {
  std::unordered_map<Uuid, int> users;
  for (const auto& [layer, named] : files) {
    for (const Uuid& file : named) ++users[file];
  }
  for (const LayerRow& layer : layers) {
    bool shares = false;
    for (const Uuid& file : files.at(layer.id)) shares |= users[file] > 1;
    if (!shares) continue;
    const auto maps = LoadLayerMaps(slot, {layer});
    if (maps.ok()) AddRanges(maps->front()->map, layers_[layer.id]);
  }
  bytes_ = BytesWithout({});
}

uint64_t SharedData::BytesWithout(const std::set<Uuid>& without) const {
  RangesByFile all;
  for (const auto& [layer, by_file] : layers_) {
    if (without.contains(layer)) continue;
    for (const auto& [file, ranges] : by_file) {
      BlockRanges& in_file = all[file];
      in_file.insert(in_file.end(), ranges.begin(), ranges.end());
    }
  }
  uint64_t blocks = 0;
  for (auto& [file, ranges] : all) blocks += BlocksIn(Normalized(std::move(ranges)));
  return BlockOffsetBytes(blocks);
}

}  // namespace cowl
