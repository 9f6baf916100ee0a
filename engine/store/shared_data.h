// shared_data.h: data files that several layers name blocks of, as a flattened image and what it
// was made from do, and layers that a deleted one was merged into: how much they store, each block
// once. Units: bytes. Threads: immutable once loaded. Errors: a layer whose map cannot be read is
// left out (Has says so), since a report must not fail for it; `check` says what is wrong with it.
#pragma once

#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/uuid.h"
#include "catalog/catalog.h"
#include "layer/block_ranges.h"
#include "layer/layer.h"
#include "store/loop_pool.h"

namespace cowl {

using RangesByFile = std::map<Uuid, BlockRanges>;

// Adds what a map names of each data file.
void AddRanges(const FileMap& map, RangesByFile& ranges);

class SharedData {
 public:
  // Reads the maps of those of `layers` that name a file which another of them names, too.
  // `files`: what each of them names.
  SharedData(LoopSlot& slot, const std::vector<LayerRow>& layers,
             const std::unordered_map<Uuid, std::vector<Uuid>>& files);

  // Whether it shares a file with others. What does not stores what its row says.
  bool Has(const Uuid& layer) const { return layers_.contains(layer); }
  // What all of its layers store.
  uint64_t bytes() const { return bytes_; }
  // What only these of its layers store.
  uint64_t BytesOfOnly(const std::set<Uuid>& layers) const { return bytes_ - BytesWithout(layers); }

 private:
  uint64_t BytesWithout(const std::set<Uuid>& without) const;

  std::map<Uuid, RangesByFile> layers_;
  uint64_t bytes_ = 0;
};

}  // namespace cowl
