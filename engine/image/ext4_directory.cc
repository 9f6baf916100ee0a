#include "image/ext4_directory.h"

#include <ext2fs/ext2fs.h>

#include <algorithm>
#include <cstring>

#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

// The disk forms. A record: inode, length of the record, length of the name, type, name. Blocks of
// records end in a tail that holds their checksum and looks like an unused record.
constexpr size_t kRecordHeadBytes = 8;
constexpr size_t kTailBytes = sizeof(ext2_dir_entry_tail);
constexpr size_t kLeafBytes = kBlockBytes - kTailBytes;
constexpr size_t kDotsBytes = 24;
static_assert(kTailBytes == 12 && sizeof(ext2_dx_root_info) == 8 && sizeof(ext2_dx_entry) == 8 &&
              sizeof(ext2_dx_tail) == 8);

// Index blocks: entries of 8 bytes, the first of which holds limit and count where the others hold
// a hash.
constexpr size_t kRootIndexOffset = 32;
constexpr size_t kNodeIndexOffset = 8;
constexpr size_t kRootIndexMax =
    (kBlockBytes - kRootIndexOffset - sizeof(ext2_dx_tail)) / sizeof(ext2_dx_entry);
constexpr size_t kNodeIndexMax =
    (kBlockBytes - kNodeIndexOffset - sizeof(ext2_dx_tail)) / sizeof(ext2_dx_entry);

constexpr size_t RecordBytes(size_t name_bytes) {
  return RoundUp(kRecordHeadBytes + name_bytes, 4);
}

void PutRecord(char* at, const DirectoryRecord& record, size_t record_bytes) {
  StoreLittle<uint32_t>(at, record.inode);
  StoreLittle<uint16_t>(at + 4, static_cast<uint16_t>(record_bytes));
  at[6] = static_cast<char>(record.name.size());
  at[7] = static_cast<char>(record.type);
  std::memcpy(at + kRecordHeadBytes, record.name.data(), record.name.size());
}

void PutTail(char* block) {
  char* const tail = block + kLeafBytes;
  StoreLittle<uint16_t>(tail + 4, kTailBytes);
  StoreLittle<uint16_t>(tail + 6, EXT2_DIR_NAME_LEN_CSUM);
}

// A block of records, filled from the front.
class LeafWriter {
 public:
  LeafWriter() : block_(kBlockBytes, '\0') { PutTail(block_.data()); }

  bool Fits(const DirectoryRecord& record) const {
    return used_ + RecordBytes(record.name.size()) <= kLeafBytes;
  }
  void Add(const DirectoryRecord& record) {
    last_ = used_;
    PutRecord(block_.data() + used_, record, RecordBytes(record.name.size()));
    used_ += RecordBytes(record.name.size());
  }
  // The last record takes what is left; a block without one holds an unused record.
  const std::string& Finish() {
    StoreLittle<uint16_t>(block_.data() + last_ + 4, static_cast<uint16_t>(kLeafBytes - last_));
    return block_;
  }

 private:
  std::string block_;
  size_t used_ = 0;
  size_t last_ = 0;
};

DirectoryRecord Dot(uint32_t self) { return {".", self, EXT2_FT_DIR}; }
DirectoryRecord DotDot(uint32_t parent) { return {"..", parent, EXT2_FT_DIR}; }

// All records one after the other, in as many blocks as it takes.
std::string BuildList(uint32_t self, uint32_t parent, const std::vector<DirectoryRecord>& records) {
  std::string bytes;
  LeafWriter leaf;
  leaf.Add(Dot(self));
  leaf.Add(DotDot(parent));
  for (const DirectoryRecord& record : records) {
    if (!leaf.Fits(record)) {
      bytes += leaf.Finish();
      leaf = LeafWriter();
    }
    leaf.Add(record);
  }
  return bytes += leaf.Finish();
}

struct Hashed {
  uint32_t hash;
  uint32_t minor;
  const DirectoryRecord* record;
};

std::vector<Hashed> SortByHash(const std::vector<DirectoryRecord>& records,
                               const DirectoryHashSeed& seed) {
  std::vector<Hashed> sorted;
  sorted.reserve(records.size());
  for (const DirectoryRecord& record : records) {
    ext2_dirhash_t hash = 0;
    ext2_dirhash_t minor = 0;
    ext2fs_dirhash2(EXT2_HASH_HALF_MD4, record.name.data(), static_cast<int>(record.name.size()),
                    nullptr, 0, const_cast<uint32_t*>(seed.data()), &hash, &minor);
    sorted.push_back({hash, minor, &record});
  }
  std::ranges::sort(sorted, [](const Hashed& a, const Hashed& b) {
    if (a.hash != b.hash) return a.hash < b.hash;
    if (a.minor != b.minor) return a.minor < b.minor;
    return a.record->name < b.record->name;
  });
  return sorted;
}

// What an index says of a block: the lowest hash in it, and which of its siblings it is.
struct IndexEntry {
  uint32_t hash;
  uint32_t child;
};

struct Leaves {
  std::string bytes;
  std::vector<IndexEntry> index;
};

Leaves BuildLeaves(const std::vector<Hashed>& sorted) {
  Leaves leaves;
  leaves.index.push_back({0, 0});
  LeafWriter leaf;
  for (size_t i = 0; i < sorted.size(); ++i) {
    if (!leaf.Fits(*sorted[i].record)) {
      leaves.bytes += leaf.Finish();
      leaf = LeafWriter();
      // The lowest bit says that the hash began in the block before.
      const uint32_t continued = sorted[i].hash == sorted[i - 1].hash ? 1 : 0;
      leaves.index.push_back(
          {sorted[i].hash | continued, static_cast<uint32_t>(leaves.index.size())});
    }
    leaf.Add(*sorted[i].record);
  }
  leaves.bytes += leaf.Finish();
  return leaves;
}

// `children` of an index block, at `offset` in it; child i is block `first_block` + i of the
// directory.
void PutIndex(char* block, size_t offset, size_t entries_max, std::span<const IndexEntry> children,
              uint32_t first_block) {
  for (size_t i = 0; i < children.size(); ++i) {
    char* const at = block + offset + i * sizeof(ext2_dx_entry);
    StoreLittle<uint32_t>(at, children[i].hash);
    StoreLittle<uint32_t>(at + 4, first_block + children[i].child);
  }
  StoreLittle<uint16_t>(block + offset, static_cast<uint16_t>(entries_max));
  StoreLittle<uint16_t>(block + offset + 2, static_cast<uint16_t>(children.size()));
}

std::string BuildRoot(uint32_t self, uint32_t parent, uint8_t levels,
                      std::span<const IndexEntry> children) {
  std::string block(kBlockBytes, '\0');
  PutRecord(block.data(), Dot(self), kDotsBytes / 2);
  PutRecord(block.data() + kDotsBytes / 2, DotDot(parent), kBlockBytes - kDotsBytes / 2);
  block[kDotsBytes + 4] = EXT2_HASH_HALF_MD4;
  block[kDotsBytes + 5] = sizeof(ext2_dx_root_info);
  block[kDotsBytes + 6] = static_cast<char>(levels);
  PutIndex(block.data(), kRootIndexOffset, kRootIndexMax, children, 1);
  return block;
}

std::string BuildTree(uint32_t self, uint32_t parent, const Leaves& leaves) {
  if (leaves.index.size() <= kRootIndexMax) {
    return BuildRoot(self, parent, 0, leaves.index) + leaves.bytes;
  }
  // Root, then the nodes, then the leaves.
  const std::span<const IndexEntry> index(leaves.index);
  const uint32_t node_count =
      static_cast<uint32_t>(RoundUp(index.size(), kNodeIndexMax) / kNodeIndexMax);
  std::vector<IndexEntry> nodes;
  std::string bytes;
  for (uint32_t node = 0; node < node_count; ++node) {
    const size_t begin = node * kNodeIndexMax;
    const auto children = index.subspan(begin, std::min(kNodeIndexMax, index.size() - begin));
    nodes.push_back({children[0].hash, node});
    std::string block(kBlockBytes, '\0');
    StoreLittle<uint16_t>(block.data() + 4, kBlockBytes);  // one unused record over all of it
    PutIndex(block.data(), kNodeIndexOffset, kNodeIndexMax, children, 1 + node_count);
    bytes += block;
  }
  return BuildRoot(self, parent, 1, nodes) + bytes + leaves.bytes;
}

}  // namespace

DirectoryBlocks BuildDirectory(uint32_t self, uint32_t parent,
                               const std::vector<DirectoryRecord>& records,
                               const DirectoryHashSeed& seed) {
  size_t list_bytes = kDotsBytes;
  for (const DirectoryRecord& record : records) list_bytes += RecordBytes(record.name.size());
  if (list_bytes <= kLeafBytes) return {BuildList(self, parent, records), false};
  const Leaves leaves = BuildLeaves(SortByHash(records, seed));
  // Tens of millions of entries: more than two levels of index hold. A list has no limit.
  if (leaves.index.size() > kRootIndexMax * kNodeIndexMax)
    return {BuildList(self, parent, records), false};
  return {BuildTree(self, parent, leaves), true};
}

std::string BuildEmptyDirectory(uint32_t self, uint32_t parent, size_t block_count) {
  std::string bytes = BuildList(self, parent, {});
  for (size_t i = 1; i < block_count; ++i) bytes += LeafWriter().Finish();
  return bytes;
}

uint64_t DirectoryBlocksMax(uint64_t record_count, uint64_t names_bytes) {
  const uint64_t records_bytes = names_bytes + record_count * (kRecordHeadBytes + 3) + kDotsBytes;
  if (records_bytes <= kLeafBytes) return 1;
  // A leaf is closed when the next record, of 264 bytes at most, does not fit.
  const uint64_t leaf_count = records_bytes / (kLeafBytes - RecordBytes(EXT2_NAME_LEN) + 4) + 1;
  return 1 + leaf_count + leaf_count / kNodeIndexMax + 1;
}

}  // namespace cowl
