#include "image/ext4_extents.h"

#include <ext2fs/ext3_extents.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

static_assert(sizeof(ext3_extent_header) == 12 && sizeof(ext3_extent) == 12 &&
              sizeof(ext3_extent_idx) == 12);
constexpr size_t kItemBytes = 12;
constexpr size_t kInodeItems = 4;
constexpr size_t kBlockItems = (kBlockBytes - kItemBytes) / kItemBytes;

}  // namespace

void ExtentList::Add(uint64_t logical, uint64_t physical, uint64_t count) {
  block_count_ += count;
  if (!items_.empty()) {
    Item& last = items_.back();
    const bool goes_on =
        last.logical + last.count == logical && last.physical + last.count == physical;
    if (goes_on) {
      const uint64_t more = std::min<uint64_t>(count, EXT_INIT_MAX_LEN - last.count);
      last.count += static_cast<uint32_t>(more);
      logical += more;
      physical += more;
      count -= more;
    }
  }
  while (count > 0) {
    const uint64_t now = std::min<uint64_t>(count, EXT_INIT_MAX_LEN);
    items_.push_back({static_cast<uint32_t>(logical), physical, static_cast<uint32_t>(now)});
    logical += now;
    physical += now;
    count -= now;
  }
}

void ExtentList::Encode(std::span<const Item> items, uint16_t depth, uint16_t items_max,
                        std::byte* to) {
  StoreLittle<uint16_t>(to, EXT3_EXT_MAGIC);
  StoreLittle<uint16_t>(to + 2, static_cast<uint16_t>(items.size()));
  StoreLittle<uint16_t>(to + 4, items_max);
  StoreLittle<uint16_t>(to + 6, depth);
  for (const Item& item : items) {
    to += kItemBytes;
    const uint32_t low = static_cast<uint32_t>(item.physical);
    const uint16_t high = static_cast<uint16_t>(item.physical >> 32);
    StoreLittle<uint32_t>(to, item.logical);
    if (depth == 0) {
      StoreLittle<uint16_t>(to + 4, static_cast<uint16_t>(item.count));
      StoreLittle<uint16_t>(to + 6, high);
      StoreLittle<uint32_t>(to + 8, low);
    } else {
      StoreLittle<uint32_t>(to + 4, low);
      StoreLittle<uint16_t>(to + 8, high);
    }
  }
}

absl::StatusOr<std::vector<ExtentList::Item>> ExtentList::StoreLevel(
    Ext4Volume& volume, uint32_t inode, uint16_t depth, const std::vector<Item>& items) {
  std::vector<Item> above;
  const std::span<const Item> all(items);
  for (size_t begin = 0; begin < all.size(); begin += kBlockItems) {
    const auto part = all.subspan(begin, std::min(kBlockItems, all.size() - begin));
    std::array<std::byte, kBlockBytes> block{};
    Encode(part, depth, kBlockItems, block.data());
    COWL_RETURN_IF_ERROR(volume.SignExtentBlock(inode, block));
    COWL_ASSIGN_OR_RETURN(const BlockRun place, volume.Allocate(1));
    COWL_RETURN_IF_ERROR(volume.WriteData(place.begin, block));
    above.push_back({part[0].logical, place.begin, 0});
  }
  return above;
}

absl::Status ExtentList::Store(Ext4Volume& volume, uint32_t inode, Ext4Inode& content) const {
  std::vector<Item> level = items_;
  uint64_t tree_blocks = 0;
  uint16_t depth = 0;
  while (level.size() > kInodeItems) {
    COWL_ASSIGN_OR_RETURN(level, StoreLevel(volume, inode, depth, level));
    tree_blocks += level.size();
    ++depth;
  }
  content.fields.i_flags |= EXT4_EXTENTS_FL;
  Encode(level, depth, kInodeItems, reinterpret_cast<std::byte*>(content.fields.i_block));
  volume.CountBlocks(content, block_count_ + tree_blocks);
  return absl::OkStatus();
}

}  // namespace cowl
