// A layer's file, fed with anything behind checksums that hold: its map and blocks are read, and
// the file goes through what deletion does with it, which must lose nothing that could be read
// before.
#include <algorithm>
#include <cstdio>
#include <map>
#include <vector>

#include "base/status.h"
#include "io/memory_storage.h"
#include "layer/data_file.h"
#include "layer/layer.h"
#include "mend_checksums.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
using LayerPointer = std::shared_ptr<const LayerMap>;

constexpr size_t kExtentsRead = 32;
const std::string kName = "layers/fuzzed";

// The first and the last block of some extents, as far as they can be read.
std::map<uint64_t, Bytes> ReadSome(Storage& storage, const LayerMap& layer) {
  std::map<uint64_t, Bytes> found;
  const absl::StatusOr<std::shared_ptr<DataFile>> file = RunInline(DataFile::Open(storage, kName));
  if (!file.ok()) return found;
  const std::span<const Extent> extents = layer.map.extents.extents();
  for (const Extent& extent : extents.first(std::min(extents.size(), kExtentsRead))) {
    if (!extent.is_data() || extent.source() != 0) continue;
    for (const uint64_t physical : {extent.physical(), extent.physical() + extent.length() - 1}) {
      Bytes bytes(kBlockBytes);
      if (RunInline((*file)->Read(physical, bytes)).ok()) found[physical] = std::move(bytes);
    }
  }
  return found;
}

// What chains make of a map: nothing may be lost or made up.
void CheckMerging(const LayerPointer& layer) {
  const LayerPointer both[] = {layer, layer};
  const absl::StatusOr<std::shared_ptr<const ChainMap>> chain = MergeChain(both);
  if (!chain.ok()) return;
  const uint64_t data_blocks = layer->map.extents.DataBlocks();
  COWL_CHECK((*chain)->extents.DataBlocks() == data_blocks);
  COWL_CHECK(MapOfChain(**chain, layer->superblock.id).extents.DataBlocks() == data_blocks);
  COWL_CHECK(MergeParentInto(*layer, *layer).extents.DataBlocks() == data_blocks);
  const uint64_t begin = layer->map.extents.empty() ? 0 : layer->map.extents.extents()[0].start();
  const FileMap rest = WithoutRanges(layer->map, {{begin, begin + 2}, {begin + 5, begin + 6}});
  COWL_CHECK(rest.extents.DataBlocks() <= data_blocks &&
             rest.extents.DataBlocks() + 3 >= data_blocks);
}

// An edit of the map that leaves it as it is.
void CheckRewriting(MemoryStorage storage, const LayerMap& layer) {
  const absl::Status written =
      RunInline(RewriteMap(storage, kName, layer.map, layer.superblock.parent));
  const absl::StatusOr<LayerPointer> again = RunInline(LoadLayerMap(storage, kName));
  if (!again.ok()) std::fprintf(stderr, "lost: %s\n", Message(again.status()).c_str());
  COWL_CHECK(again.ok());
  COWL_CHECK(std::ranges::equal((*again)->map.extents.extents(), layer.map.extents.extents()));
  COWL_CHECK((*again)->map.files == layer.map.files);
  COWL_CHECK(!written.ok() || (*again)->superblock.generation > layer.superblock.generation);
}

void CheckPunching(MemoryStorage storage, const LayerMap& layer) {
  const std::map<uint64_t, Bytes> before = ReadSome(storage, layer);
  BlockRanges live;
  for (const Extent& extent : layer.map.extents.extents()) {
    if (extent.is_data() && extent.source() == 0)
      live.emplace_back(extent.physical(), extent.physical() + extent.length());
  }
  const absl::StatusOr<uint64_t> freed =
      RunInline(PunchDead(storage, kName, Normalized(std::move(live))));
  static_cast<void>(freed.ok());  // a page table that cannot be read keeps it from punching
  COWL_CHECK(RunInline(LoadLayerMap(storage, kName)).ok());
  COWL_CHECK(ReadSome(storage, layer) == before);
}

void Run(std::span<const uint8_t> input) {
  Bytes bytes(input.size());
  std::ranges::transform(input, bytes.begin(), [](uint8_t byte) { return std::byte{byte}; });
  MendChecksums(bytes);
  MemoryStorage storage;
  auto content = std::make_shared<MemoryStorage::Content>();
  WriteContent(*content, 0, bytes);
  storage.files()[kName] = std::move(content);

  const absl::StatusOr<LayerPointer> layer = RunInline(LoadLayerMap(storage, kName));
  if (!layer.ok()) return;
  CheckMerging(*layer);
  CheckRewriting(storage.Clone(), **layer);
  CheckPunching(storage.Clone(), **layer);
}

}  // namespace
}  // namespace cowl

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cowl::Run({data, size});
  return 0;
}
