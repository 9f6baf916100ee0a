#include "layer/layer.h"

#include <time.h>

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "layer/section_writer.h"

namespace cowl {
namespace {

// The chain's table of sources, filled as layers are met.
class SourceTable {
 public:
  explicit SourceTable(ChainMap& chain) : chain_(chain) {}

  // The chain-wide sources of one layer's local ones.
  std::vector<uint32_t> Add(uint32_t layer_index, const std::vector<Uuid>& files) {
    std::vector<uint32_t> sources;
    for (const Uuid& id : files) {
      const auto [at, is_new] = file_index_.try_emplace(id, chain_.files.size());
      if (is_new) chain_.files.push_back(id);
      sources.push_back(static_cast<uint32_t>(chain_.sources.size()));
      chain_.sources.push_back({layer_index, at->second});
    }
    return sources;
  }

 private:
  ChainMap& chain_;
  absl::flat_hash_map<Uuid, uint32_t, std::hash<Uuid>> file_index_;
};

ExtentArray Renumbered(const ExtentArray& extents, std::span<const uint32_t> sources) {
  return MergeExtents(extents.extents(), sources, {}, {});
}

// Merges neighbours pairwise, so that each extent is copied once for each doubling of the depth.
ExtentArray MergeAll(std::vector<ExtentArray> maps, std::span<const uint32_t> same) {
  while (maps.size() > 1) {
    std::vector<ExtentArray> half;
    for (size_t i = 0; i + 1 < maps.size(); i += 2) {
      half.push_back(MergeExtents(maps[i].extents(), same, maps[i + 1].extents(), same));
    }
    if (maps.size() % 2 == 1) half.push_back(std::move(maps.back()));
    maps = std::move(half);
  }
  return maps.empty() ? ExtentArray() : std::move(maps.front());
}

std::vector<uint32_t> Iota(size_t count) {
  std::vector<uint32_t> numbers(count);
  for (size_t i = 0; i < count; ++i) numbers[i] = static_cast<uint32_t>(i);
  return numbers;
}

// Writes map and file list at `block` into `superblock`, which is not written.
Task<absl::Status> WriteMapSections(File& file, uint64_t block, const FileMap& map,
                                    Superblock* superblock) {
  const std::span<const Uuid> others = std::span(map.files).subspan(1);
  absl::StatusOr<Section> files =
      co_await WriteSection(file, block, std::as_bytes(others), others.size());
  if (!files.ok()) co_return files.status();
  const std::span<const Extent> extents = map.extents.extents();
  const uint64_t map_block = block + files->blocks;
  absl::StatusOr<Section> written =
      co_await WriteSection(file, map_block, std::as_bytes(extents), extents.size());
  if (!written.ok()) co_return written.status();
  superblock->files = *files;
  superblock->map = *written;
  superblock->stored_blocks = map.extents.DataBlocks();
  co_return absl::OkStatus();
}

// What no superblock names any more. It is only space: where it cannot be given back now, a later
// PunchDead of the file does it.
Task<void> PunchSection(File& file, const Section section) {
  if (section.blocks == 0) co_return;
  const absl::Status status =
      co_await file.PunchHole(BlockOffsetBytes(section.block), BlockOffsetBytes(section.blocks));
  static_cast<void>(status);
}

// Without data files that no extent names; the layer itself, the first one, stays.
FileMap Compacted(const FileMap& map, bool keep_zeros) {
  std::vector<uint32_t> numbers(map.files.size(), 0);
  FileMap compact;
  compact.files = {map.files.front()};
  ExtentArrayBuilder builder;
  for (const Extent& extent : map.extents.extents()) {
    if (!extent.is_data()) {
      if (keep_zeros) builder.Add({extent.start(), extent.length(), Segment::Kind::kZero, 0, 0});
      continue;
    }
    uint32_t& number = numbers[extent.source()];
    if (extent.source() != 0 && number == 0) {
      number = static_cast<uint32_t>(compact.files.size());
      compact.files.push_back(map.files[extent.source()]);
    }
    builder.Add({extent.start(), extent.length(), Segment::Kind::kData, number, extent.physical()});
  }
  compact.extents = builder.Build();
  return compact;
}

}  // namespace

std::string DataFileName(const Uuid& id) { return "layers/" + id.ToString() + ".cowl"; }

int64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

Task<absl::StatusOr<std::shared_ptr<const LayerMap>>> LoadLayerMap(Storage& storage,
                                                                   std::string name) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kRead);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(**file);
  if (!superblock.ok()) co_return superblock.status();
  if (superblock->kind != DataFileKind::kLayer) {
    co_return FailedPrecondition(
        absl::StrCat((*file)->path(), ": is an overlay that was never sealed, not a layer"));
  }
  absl::StatusOr<FileMap> map = co_await ReadFileMap(**file, *superblock);
  if (!map.ok()) co_return map.status();
  co_return std::make_shared<const LayerMap>(LayerMap{*superblock, *std::move(map)});
}

absl::StatusOr<std::shared_ptr<const ChainMap>> MergeChain(
    std::span<const std::shared_ptr<const LayerMap>> layers) {
  auto chain = std::make_shared<ChainMap>();
  SourceTable table(*chain);
  std::vector<ExtentArray> maps;
  for (size_t i = 0; i < layers.size(); ++i) {
    chain->layers.push_back(layers[i]->superblock.id);
    const std::vector<uint32_t> sources = table.Add(static_cast<uint32_t>(i), layers[i]->map.files);
    maps.push_back(Renumbered(layers[i]->map.extents, sources));
  }
  if (chain->sources.size() > Extent::kSourceLimit) {
    return InvalidArgument(absl::StrCat("a chain of ", layers.size(), " layers names ",
                                        chain->sources.size(), " data files: more than ",
                                        Extent::kSourceLimit, "; flatten it"));
  }
  chain->extents = MergeAll(std::move(maps), Iota(chain->sources.size()));
  return chain;
}

FileMap MergeParentInto(const LayerMap& child, const LayerMap& parent) {
  FileMap merged;
  merged.files = child.map.files;
  std::vector<uint32_t> parent_sources;
  for (const Uuid& id : parent.map.files) {
    const auto found = std::find(merged.files.begin(), merged.files.end(), id);
    parent_sources.push_back(static_cast<uint32_t>(found - merged.files.begin()));
    if (found == merged.files.end()) merged.files.push_back(id);
  }
  merged.extents = MergeExtents(child.map.extents.extents(), Iota(child.map.files.size()),
                                parent.map.extents.extents(), parent_sources);
  return Compacted(merged, /*keep_zeros=*/true);
}

FileMap MapOfChain(const ChainMap& chain, const Uuid& self) {
  FileMap map;
  map.files = {self};
  map.files.insert(map.files.end(), chain.files.begin(), chain.files.end());
  std::vector<uint32_t> sources;
  for (const ChainMap::Source& source : chain.sources) sources.push_back(source.file_index + 1);
  ExtentArrayBuilder builder;
  // Nothing lies below: what is zero need not be said.
  for (const Extent& extent : chain.extents.extents()) {
    if (!extent.is_data()) continue;
    builder.Add({extent.start(), extent.length(), Segment::Kind::kData, sources[extent.source()],
                 extent.physical()});
  }
  map.extents = builder.Build();
  return Compacted(map, false);
}

FileMap WithoutRanges(const FileMap& map, const BlockRanges& ranges) {
  FileMap rest;
  rest.files = map.files;
  ExtentArrayBuilder builder;
  auto cut = ranges.begin();
  for (const Extent& extent : map.extents.extents()) {
    const Segment whole{extent.start(), extent.length(),
                        extent.is_data() ? Segment::Kind::kData : Segment::Kind::kZero,
                        static_cast<uint32_t>(extent.source()),
                        extent.is_data() ? extent.physical() : 0};
    while (cut != ranges.end() && cut->second <= whole.start) ++cut;
    uint64_t kept_from = whole.start;
    for (auto next = cut; next != ranges.end() && next->first < whole.end(); ++next) {
      if (next->first > kept_from) builder.Add(whole.Slice(kept_from, next->first));
      kept_from = next->second;
    }
    if (kept_from < whole.end()) builder.Add(whole.Slice(kept_from, whole.end()));
  }
  rest.extents = builder.Build();
  return Compacted(rest, /*keep_zeros=*/true);
}

Task<absl::Status> RewriteMap(Storage& storage, std::string name, FileMap map, Uuid parent) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kReadWrite);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> old = co_await ReadSuperblock(**file);
  if (!old.ok()) co_return old.status();
  absl::StatusOr<uint64_t> size = (*file)->SizeBytes();
  if (!size.ok()) co_return size.status();
  Superblock next = *old;
  next.generation = old->generation + 1;
  next.parent = parent;
  absl::Status written = co_await WriteMapSections(**file, BlocksCeil(*size), map, &next);
  if (written.ok()) written = co_await (*file)->Sync();
  if (!written.ok()) {
    // On a full disk each attempt would leave its part of the map behind the end.
    const absl::Status cut = co_await (*file)->Truncate(*size);
    static_cast<void>(cut);
    co_return written;
  }
  COWL_CO_RETURN_IF_ERROR(co_await WriteSuperblock(**file, next));
  COWL_CO_RETURN_IF_ERROR(co_await (*file)->Sync());  // the new map holds from here on
  co_await PunchSection(**file, old->map);
  co_await PunchSection(**file, old->files);
  co_return absl::OkStatus();
}

Task<absl::Status> SettleSuperblock(Storage& storage, std::string name) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kReadWrite);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(**file);
  if (!superblock.ok()) co_return superblock.status();
  // Written again: after a sync that failed the kernel takes its page for clean.
  COWL_CO_RETURN_IF_ERROR(co_await WriteSuperblock(**file, *superblock));
  co_return co_await (*file)->Sync();
}

Task<absl::Status> WriteMapOnlyLayer(Storage& storage, NewLayer layer, FileMap map) {
  const std::string name = DataFileName(layer.id);
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kCreate);
  if (!file.ok()) co_return file.status();
  Superblock superblock;
  superblock.id = layer.id;
  superblock.parent = layer.parent;
  superblock.size_bytes = layer.size_bytes;
  superblock.created_ns = NowNs();
  superblock.created_by = layer.created_by.substr(0, Superblock::kCreatedByBytesMax);
  // Both superblock slots exist from the start, so that the file is never shorter than they are.
  COWL_CO_RETURN_IF_ERROR(
      co_await (*file)->Truncate(BlockOffsetBytes(Superblock::kFirstFreeBlock)));
  COWL_CO_RETURN_IF_ERROR(
      co_await WriteMapSections(**file, Superblock::kFirstFreeBlock, map, &superblock));
  COWL_CO_RETURN_IF_ERROR(co_await (*file)->Sync());
  COWL_CO_RETURN_IF_ERROR(co_await WriteFirstSuperblock(**file, &superblock));
  co_return co_await (*file)->Sync();
}

BlockRanges MetadataRanges(const Superblock& superblock, std::span<const uint64_t> page_blocks) {
  BlockRanges ranges = {{0, Superblock::kFirstFreeBlock}};
  for (const Section& section : {superblock.map, superblock.sum_pages, superblock.files}) {
    ranges.emplace_back(section.block, section.block + section.blocks);
  }
  for (const uint64_t block : page_blocks) {
    if (block != 0) ranges.emplace_back(block, block + 1);
  }
  ranges.emplace_back(superblock.journal_block,
                      superblock.journal_block + superblock.journal_blocks);
  return ranges;
}

Task<absl::StatusOr<uint64_t>> PunchDead(Storage& storage, std::string name,
                                         BlockRanges live_data) {
  // What an older superblock names goes only when the newest is durable.
  COWL_CO_RETURN_IF_ERROR(co_await SettleSuperblock(storage, name));
  absl::StatusOr<DataFileLayout> layout = co_await OpenLayout(storage, name, OpenMode::kReadWrite);
  if (!layout.ok()) co_return layout.status();
  File* const file = layout->file.get();
  absl::StatusOr<uint64_t> before = file->DiskBytes();
  absl::StatusOr<uint64_t> size = file->SizeBytes();
  if (!before.ok()) co_return before.status();
  if (!size.ok()) co_return size.status();
  BlockRanges live = MetadataRanges(layout->superblock, layout->page_blocks);
  live.insert(live.end(), live_data.begin(), live_data.end());
  live = Normalized(std::move(live));
  live.emplace_back(BlocksCeil(*size), BlocksCeil(*size));
  uint64_t dead_from = 0;
  for (const auto& [begin, end] : live) {
    if (begin > dead_from) {
      COWL_CO_RETURN_IF_ERROR(co_await file->PunchHole(BlockOffsetBytes(dead_from),
                                                       BlockOffsetBytes(begin - dead_from)));
    }
    dead_from = std::max(dead_from, end);
  }
  absl::StatusOr<uint64_t> after = file->DiskBytes();
  if (!after.ok()) co_return after.status();
  co_return *before > *after ? *before - *after : 0;
}

}  // namespace cowl
