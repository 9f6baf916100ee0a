// ext4_extents.h: where on the disk the blocks of a file are, as ext4 notes it in an inode and the
// tree below it. Threads: one.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "image/ext4_volume.h"

namespace cowl {

class ExtentList {
 public:
  // Blocks [logical, logical + count) of the file lie at [physical, ...). In rising order of
  // `logical`.
  void Add(uint64_t logical, uint64_t physical, uint64_t count);

  // Puts the list into `content`, whose number is `inode`, with as many tree blocks as it takes,
  // and sets i_blocks to all blocks the file has.
  absl::Status Store(Ext4Volume& volume, uint32_t inode, Ext4Inode& content) const;

 private:
  // An extent, or a tree block: both say from which logical block on, and where.
  struct Item {
    uint32_t logical;
    uint64_t physical;
    uint32_t count;  // of an extent
  };

  static void Encode(std::span<const Item> items, uint16_t depth, uint16_t items_max,
                     std::byte* to);
  static absl::StatusOr<std::vector<Item>> StoreLevel(Ext4Volume& volume, uint32_t inode,
                                                      uint16_t depth,
                                                      const std::vector<Item>& items);

  std::vector<Item> items_;
  uint64_t block_count_ = 0;
};

}  // namespace cowl
