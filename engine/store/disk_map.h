// disk_map.h: where every block of a whole disk is, at one moment: what the map and diff reports
// are made of. Units: blocks. Threads: value type. Errors: none.
#pragma once

#include <cstdint>
#include <vector>

#include "base/uuid.h"
#include "cowl/store.h"
#include "layer/layer.h"

namespace cowl {

struct DiskMap {
  struct Piece {
    uint64_t start = 0;
    uint64_t length = 0;
    bool zero = true;
    uint32_t depth = 0;     // 0: nobody has it
    Uuid layer;             // that says so; nil: the overlay, or nobody
    Uuid file;              // of the data
    uint64_t physical = 0;  // its first block there

    uint64_t end() const { return start + length; }
  };

  uint64_t size_bytes = 0;
  std::vector<Piece> pieces;  // in order, without gaps, covering the disk
};

// `chain`, its top layer at depth `top_depth`. `overlay` (of file `overlay_id`, depth 1) lies above
// it where it is not null.
DiskMap MakeDiskMap(const ChainMap& chain, uint32_t top_depth, const ExtentArray* overlay,
                    const Uuid& overlay_id, uint64_t size_bytes);

// As the report has them: bytes, clipped to the disk, what continues joined.
std::vector<MapEntry> MapEntriesOf(const DiskMap& map);

// Where `a` may read differently from `b`, which reads as zeros beyond its end.
std::vector<DiffEntry> DiffOf(const DiskMap& a, const DiskMap& b);

}  // namespace cowl
