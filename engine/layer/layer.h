// layer.h: the layers of a store: their maps, chains of them merged, and the edits that deletion
// makes. Units: blocks. Threads: LayerMap and ChainMap are immutable and shared between threads;
// the functions run on one loop. Errors: DataLoss for damaged files; those of the file. Durability:
// RewriteMap is durable when it has returned OK, and leaves the old map valid at any moment before.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "layer/block_ranges.h"
#include "layer/data_file.h"
#include "layer/extent_array.h"

namespace cowl {

// "layers/ID.cowl": where a store keeps the data file of this id, layer's or overlay's.
std::string DataFileName(const Uuid& id);

// What a layer says: its superblock and its map.
struct LayerMap {
  Superblock superblock;
  FileMap map;
};
Task<absl::StatusOr<std::shared_ptr<const LayerMap>>> LoadLayerMap(Storage& storage,
                                                                   std::string name);

// A chain of layers, merged into one map, so that reading does not depend on its depth.
struct ChainMap {
  static constexpr size_t kDepthMax = 255;

  // Where an extent comes from: which layer of the chain named it, and whose data file it lies in.
  struct Source {
    uint32_t layer_index = 0;  // 0: the top layer
    uint32_t file_index = 0;   // into files
  };

  std::vector<Uuid> layers;  // top first
  std::vector<Uuid> files;
  std::vector<Source> sources;
  ExtentArray extents;  // source(): into sources
};

// `layers` top first, at most kDepthMax. InvalidArgument when there are more than 2^20 (layer,
// file) pairs.
absl::StatusOr<std::shared_ptr<const ChainMap>> MergeChain(
    std::span<const std::shared_ptr<const LayerMap>> layers);

// The map of `child` with that of `parent` below it, as one layer's. Zeros stay in it also where
// nothing lies below `parent`: the new map is on the disk before the chain goes without the parent,
// and must read the same with the parent below it. Data files that no extent names any more are not
// listed.
FileMap MergeParentInto(const LayerMap& child, const LayerMap& parent);

// Replaces the map of layer file `name` and its parent, as a new version behind the other
// superblock.
Task<absl::Status> RewriteMap(Storage& storage, std::string name, FileMap map, Uuid parent);

// A chain's merged map as the map of one layer `self` that brings no data of its own (collapse,
// flatten without copying). Lists the data files that its extents name.
FileMap MapOfChain(const ChainMap& chain, const Uuid& self);

// Makes what the newest superblock of `name` says durable, whatever became of the process that
// wrote it: one that was killed between writing and syncing it, or whose sync failed, leaves it in
// the page cache alone. To be called before anything relies on the superblock of a file that
// somebody else wrote: a catalog row, a hole punch.
Task<absl::Status> SettleSuperblock(Storage& storage, std::string name);

// `map` without what it says of `ranges`, sorted and disjoint; its first file stays listed.
FileMap WithoutRanges(const FileMap& map, const BlockRanges& ranges);

// Makes a layer file from a map alone.
struct NewLayer {
  Uuid id;
  Uuid parent;
  uint64_t size_bytes = 0;
  std::string created_by;
};
Task<absl::Status> WriteMapOnlyLayer(Storage& storage, NewLayer layer, FileMap map);

// What the data file itself needs besides data: superblocks, sections, checksum pages. In no order;
// some are empty, and those of a damaged file may overlap.
BlockRanges MetadataRanges(const Superblock& superblock, std::span<const uint64_t> page_blocks);

// Gives back all blocks of the file outside `live_data` and its metadata; returns how many bytes of
// disk that freed.
Task<absl::StatusOr<uint64_t>> PunchDead(Storage& storage, std::string name, BlockRanges live_data);

int64_t NowNs();

}  // namespace cowl
