// model.h: what a device must read as, kept the plain way: an array of bytes, and for each block
// which level of the stack said so last. Units: bytes. Threads: value type.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/units.h"
#include "device/block_device.h"

namespace cowl {

class DeviceModel {
 public:
  explicit DeviceModel(uint64_t size_bytes, uint64_t size_bytes_max);

  void Write(uint64_t offset_bytes, std::span<const std::byte> from);
  void Discard(uint64_t offset_bytes, uint64_t length_bytes);
  void WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes, bool no_hole);
  void Resize(uint64_t size_bytes);

  // The overlay has become a layer.
  void Seal();
  // The overlay was thrown away: back to what the layers say.
  void Reset();
  // Layer `index` goes into the one above it, index >= 1.
  void DeleteLayer(size_t index);
  void Collapse();

  uint64_t size_bytes() const { return size_bytes_; }
  std::span<const std::byte> Bytes(uint64_t offset_bytes, uint64_t length_bytes) const;
  size_t layer_count() const { return levels_.size() - 1; }
  // What the device reads as where the layer `index` is the top of the chain.
  std::vector<std::byte> LayerBytes(size_t index) const;

  // "" when these extents are what the range must be answered with, else what is wrong.
  std::string CheckMap(uint64_t offset_bytes, uint64_t length_bytes,
                       std::span<const MapExtent> extents) const;

 private:
  // What one level of the stack holds: its content where it has any.
  struct Level {
    enum class Kind : uint8_t { kAbsent, kZero, kData };
    std::vector<Kind> kinds;  // by block
    std::vector<std::byte> bytes;
  };
  struct Found {
    Level::Kind kind = Level::Kind::kAbsent;
    uint32_t depth = 0;
  };

  void StoreData(uint64_t offset_bytes, std::span<const std::byte> from);
  bool IsZeroBlock(uint64_t block) const;
  Found Find(uint64_t block) const;
  void Compose();
  void MergeDown(Level& upper, const Level& lower) const;
  Level NewLevel() const;

  uint64_t size_bytes_;
  uint64_t blocks_;
  std::vector<Level> levels_;     // 0: the overlay; the layers, top first
  std::vector<std::byte> bytes_;  // all levels composed
};

}  // namespace cowl
