#include "store/disk_map.h"

#include <algorithm>

#include "base/units.h"

namespace cowl {
namespace {

using Piece = DiskMap::Piece;

bool SameContent(const Piece& a, const Piece& b, uint64_t block) {
  if (a.zero || b.zero) return a.zero == b.zero;
  return a.file == b.file && a.physical + (block - a.start) == b.physical + (block - b.start);
}

// Adds the part of a disk of `size_bytes` that lies in [begin, end) blocks to `entries`, joined
// with the last where it continues it.
template <typename Entry, typename Joins>
void Append(std::vector<Entry>* entries, Entry entry, uint64_t begin, uint64_t end,
            uint64_t size_bytes, Joins joins) {
  entry.offset_bytes = BlockOffsetBytes(begin);
  const uint64_t end_bytes = std::min(BlockOffsetBytes(end), size_bytes);
  if (end_bytes <= entry.offset_bytes) return;
  entry.length_bytes = end_bytes - entry.offset_bytes;
  if (!entries->empty()) {
    Entry& last = entries->back();
    if (last.offset_bytes + last.length_bytes == entry.offset_bytes && joins(last, entry)) {
      last.length_bytes += entry.length_bytes;
      return;
    }
  }
  entries->push_back(std::move(entry));
}

}  // namespace

DiskMap MakeDiskMap(const ChainMap& chain, uint32_t top_depth, const ExtentArray* overlay,
                    const Uuid& overlay_id, uint64_t size_bytes) {
  DiskMap map;
  map.size_bytes = size_bytes;
  const auto from_chain = [&](const Segment& segment) {
    Piece piece;
    piece.start = segment.start;
    piece.length = segment.length;
    if (segment.kind != Segment::Kind::kAbsent) {
      const ChainMap::Source& source = chain.sources[segment.source];
      piece.zero = segment.kind == Segment::Kind::kZero;
      piece.depth = top_depth + source.layer_index;
      piece.layer = chain.layers[source.layer_index];
      if (!piece.zero) piece.file = chain.files[source.file_index];
      piece.physical = segment.physical;
    }
    map.pieces.push_back(piece);
  };
  const auto from_overlay = [&](const Segment& segment) {
    if (segment.kind == Segment::Kind::kAbsent)
      return chain.extents.VisitRange(segment.start, segment.end(), from_chain);
    const bool zero = segment.kind == Segment::Kind::kZero;
    map.pieces.push_back({segment.start, segment.length, zero, 1, Uuid{},
                          zero ? Uuid{} : overlay_id, segment.physical});
  };
  const uint64_t end = BlocksCeil(size_bytes);
  if (overlay != nullptr) {
    overlay->VisitRange(0, end, from_overlay);
  } else {
    chain.extents.VisitRange(0, end, from_chain);
  }
  return map;
}

std::vector<MapEntry> MapEntriesOf(const DiskMap& map) {
  std::vector<MapEntry> entries;
  for (const Piece& piece : map.pieces) {
    MapEntry entry;
    entry.zero = piece.zero;
    entry.depth = piece.depth;
    if (!piece.layer.IsNil()) entry.layer = piece.layer.ToString();
    Append(&entries, std::move(entry), piece.start, piece.end(), map.size_bytes,
           [](const MapEntry& last, const MapEntry& next) {
             return last.zero == next.zero && last.depth == next.depth && last.layer == next.layer;
           });
  }
  return entries;
}

std::vector<DiffEntry> DiffOf(const DiskMap& a, const DiskMap& b) {
  std::vector<DiffEntry> entries;
  size_t below = 0;
  for (const Piece& piece : a.pieces) {
    for (uint64_t block = piece.start; block < piece.end();) {
      while (below < b.pieces.size() && b.pieces[below].end() <= block) ++below;
      const bool beyond = below == b.pieces.size();
      Piece other;
      other.start = block;
      other.length = piece.end() - block;
      if (!beyond) other = b.pieces[below];
      const uint64_t end = std::min(piece.end(), other.end());
      if (!SameContent(piece, other, block)) {
        DiffEntry entry;
        entry.zero = piece.zero;
        Append(&entries, entry, block, end, a.size_bytes,
               [](const DiffEntry& last, const DiffEntry& next) { return last.zero == next.zero; });
      }
      block = end;
    }
  }
  return entries;
}

}  // namespace cowl
