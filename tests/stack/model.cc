#include "stack/model.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {

DeviceModel::DeviceModel(uint64_t size_bytes, uint64_t size_bytes_max)
    : size_bytes_(size_bytes),
      blocks_(BlocksCeil(size_bytes_max)),
      bytes_(BlockOffsetBytes(blocks_)) {
  levels_.push_back(NewLevel());
}

DeviceModel::Level DeviceModel::NewLevel() const {
  return {std::vector<Level::Kind>(blocks_), std::vector<std::byte>(BlockOffsetBytes(blocks_))};
}

std::span<const std::byte> DeviceModel::Bytes(uint64_t offset_bytes, uint64_t length_bytes) const {
  return std::span(bytes_).subspan(offset_bytes, length_bytes);
}

// A device keeps zeros as a hole where the whole blocks of a write are nothing else, or eight of
// them in a row are.
void DeviceModel::Write(uint64_t offset_bytes, std::span<const std::byte> from) {
  StoreData(offset_bytes, from);
  const uint64_t begin = BlocksCeil(offset_bytes);
  const uint64_t end = BlocksFloor(offset_bytes + from.size());
  for (uint64_t block = begin; block < end; ++block) {
    const uint64_t run_begin = block;
    while (block < end && IsZeroBlock(block)) ++block;
    if (block - run_begin < std::min<uint64_t>(8, end - begin)) continue;
    std::fill(levels_.front().kinds.begin() + static_cast<ptrdiff_t>(run_begin),
              levels_.front().kinds.begin() + static_cast<ptrdiff_t>(block), Level::Kind::kZero);
  }
}

bool DeviceModel::IsZeroBlock(uint64_t block) const {
  const std::span<const std::byte> bytes =
      std::span(bytes_).subspan(BlockOffsetBytes(block), kBlockBytes);
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte byte) { return byte == std::byte{0}; });
}

void DeviceModel::StoreData(uint64_t offset_bytes, std::span<const std::byte> from) {
  if (from.empty()) return;
  std::copy(from.begin(), from.end(), bytes_.begin() + static_cast<ptrdiff_t>(offset_bytes));
  Level& overlay = levels_.front();
  for (uint64_t block = BlocksFloor(offset_bytes); block < BlocksCeil(offset_bytes + from.size());
       ++block) {
    overlay.kinds[block] = Level::Kind::kData;
    std::memcpy(overlay.bytes.data() + BlockOffsetBytes(block),
                bytes_.data() + BlockOffsetBytes(block), kBlockBytes);
  }
}

void DeviceModel::Discard(uint64_t offset_bytes, uint64_t length_bytes) {
  const uint64_t end_bytes = offset_bytes + length_bytes;
  const uint64_t end = end_bytes == size_bytes_ ? BlocksCeil(end_bytes) : BlocksFloor(end_bytes);
  for (uint64_t block = BlocksCeil(offset_bytes); block < end; ++block) {
    levels_.front().kinds[block] = Level::Kind::kZero;
    std::memset(levels_.front().bytes.data() + BlockOffsetBytes(block), 0, kBlockBytes);
    std::memset(bytes_.data() + BlockOffsetBytes(block), 0, kBlockBytes);
  }
}

void DeviceModel::WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes, bool no_hole) {
  StoreData(offset_bytes, std::vector<std::byte>(length_bytes));
  if (no_hole) return;
  for (uint64_t block = BlocksCeil(offset_bytes); block < BlocksFloor(offset_bytes + length_bytes);
       ++block) {
    levels_.front().kinds[block] = Level::Kind::kZero;
  }
}

void DeviceModel::Resize(uint64_t size_bytes) {
  if (size_bytes < size_bytes_) WriteZeroes(size_bytes, size_bytes_ - size_bytes, false);
  size_bytes_ = size_bytes;
}

void DeviceModel::Seal() { levels_.insert(levels_.begin(), NewLevel()); }

void DeviceModel::Reset() {
  levels_.front() = NewLevel();
  Compose();
}

void DeviceModel::MergeDown(Level& upper, const Level& lower) const {
  for (uint64_t block = 0; block < blocks_; ++block) {
    if (upper.kinds[block] != Level::Kind::kAbsent || lower.kinds[block] == Level::Kind::kAbsent)
      continue;
    upper.kinds[block] = lower.kinds[block];
    std::memcpy(upper.bytes.data() + BlockOffsetBytes(block),
                lower.bytes.data() + BlockOffsetBytes(block), kBlockBytes);
  }
}

void DeviceModel::DeleteLayer(size_t index) {
  MergeDown(levels_[index], levels_[index + 1]);
  levels_.erase(levels_.begin() + static_cast<ptrdiff_t>(index) + 1);
}

void DeviceModel::Collapse() {
  Level all = NewLevel();
  for (size_t i = 1; i < levels_.size(); ++i) MergeDown(all, levels_[i]);
  // Nothing lies below, so that zeros need not be said.
  std::replace(all.kinds.begin(), all.kinds.end(), Level::Kind::kZero, Level::Kind::kAbsent);
  levels_.resize(1);
  levels_.push_back(std::move(all));
}

std::vector<std::byte> DeviceModel::LayerBytes(size_t index) const {
  Level all = NewLevel();
  for (size_t i = index + 1; i < levels_.size(); ++i) MergeDown(all, levels_[i]);
  return std::move(all.bytes);
}

void DeviceModel::Compose() {
  Level all = NewLevel();
  for (const Level& level : levels_) MergeDown(all, level);
  bytes_ = std::move(all.bytes);
}

DeviceModel::Found DeviceModel::Find(uint64_t block) const {
  for (size_t i = 0; i < levels_.size(); ++i) {
    if (levels_[i].kinds[block] != Level::Kind::kAbsent)
      return {levels_[i].kinds[block], static_cast<uint32_t>(i) + 1};
  }
  return {};
}

std::string DeviceModel::CheckMap(uint64_t offset_bytes, uint64_t length_bytes,
                                  std::span<const MapExtent> extents) const {
  uint64_t at = offset_bytes;
  for (size_t i = 0; i < extents.size(); ++i) {
    const MapExtent& extent = extents[i];
    const std::string which =
        absl::StrCat("extent ", i, " (", extent.offset_bytes, " + ", extent.length_bytes, ")");
    if (extent.offset_bytes != at || extent.length_bytes == 0) return which + " does not follow";
    at += extent.length_bytes;
    if (at > offset_bytes + length_bytes) return which + " passes the end of the range";
    if (i > 0 && extents[i - 1].type == extent.type && extents[i - 1].depth == extent.depth)
      return which + " was not merged";
    for (uint64_t block = BlocksFloor(extent.offset_bytes); block < BlocksCeil(at); ++block) {
      const Found found = Find(block);
      const auto type =
          found.kind == Level::Kind::kData ? MapExtent::Type::kData : MapExtent::Type::kZero;
      if (extent.type == type && extent.depth == found.depth) continue;
      return absl::StrCat(which, ": block ", block, " is answered as type ",
                          static_cast<int>(extent.type), " depth ", extent.depth, ", but is type ",
                          static_cast<int>(type), " depth ", found.depth);
    }
  }
  return "";
}

}  // namespace cowl
