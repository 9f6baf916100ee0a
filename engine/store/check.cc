// check.cc: is what is on the disk what the catalog says, and, where asked, is every block what its
// checksum says? Devices: check_devices.cc; leaks: check_leaks.cc.
//
// A check runs while everything else does. files_mutex_ is held for as long as it takes to read one
// map or to open one file, never while data is read. What is read then may have been given up
// meanwhile: a block that looks bad is an error only where a map still names it.
#include <algorithm>
#include <map>
#include <shared_mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/units.h"
#include "store/checker.h"
#include "store/disk.h"
#include "store/shared_data.h"

namespace cowl {
namespace {

constexpr uint64_t kReadBlocks = 256;

// What the catalog says of a layer, and of the one below it.
struct ExpectedLayer {
  LayerRow row;
  std::vector<Uuid> files;
  std::optional<LayerRow> parent;
  bool is_noted = false;  // for the reaper
};

absl::StatusOr<ExpectedLayer> Expect(CatalogQueries& queries, const Uuid& id) {
  ExpectedLayer expected;
  COWL_ASSIGN_OR_RETURN(expected.row, queries.FindLayer(id));
  COWL_ASSIGN_OR_RETURN(expected.files, queries.FilesOf(id));
  COWL_ASSIGN_OR_RETURN(expected.is_noted, Reaper::IsNoted(queries, id));
  if (expected.row.parent.IsNil()) return expected;
  const absl::StatusOr<LayerRow> parent = queries.FindLayer(expected.row.parent);
  if (parent.ok()) expected.parent = *parent;
  return expected;
}

std::vector<Uuid> Sorted(std::vector<Uuid> ids) {
  std::sort(ids.begin(), ids.end());
  return ids;
}

// The reaper merges a layer into its children's files before the catalog goes without it. Between
// the two a child is ahead of its row; the next Run does that merge again, and finds it done.
bool IsMerged(LoopSlot& slot, const ExpectedLayer& expected, const LayerMap& map) {
  if (!expected.parent || map.superblock.parent != expected.parent->parent) return false;
  const auto parent_maps = LoadLayerMaps(slot, {*expected.parent});
  if (!parent_maps.ok()) return false;
  const FileMap again = MergeParentInto(map, *parent_maps->front());
  return again.files == map.map.files &&
         std::ranges::equal(again.extents.extents(), map.map.extents.extents());
}

// A crash may have come between a map that lost what a device hides and its row (hidden_space.cc);
// the reaper then mends the row.
bool HasGivenBack(const ExpectedLayer& expected, const LayerMap& map) {
  return expected.is_noted && map.superblock.parent == expected.row.parent &&
         std::ranges::includes(Sorted(expected.files), Sorted(map.map.files)) &&
         BlockOffsetBytes(map.map.extents.DataBlocks()) < expected.row.stored_bytes;
}

// What one layer file says against its row.
void Compare(const ExpectedLayer& expected, const LayerMap& map, const std::string& path,
             CheckRun& run) {
  if (map.superblock.parent != expected.row.parent)
    run.Error(path, 0, "names another parent layer than the catalog does");
  if (Sorted(map.map.files) != Sorted(expected.files))
    run.Error(path, 0, "names other data files than the catalog does");
  if (BlockOffsetBytes(map.map.extents.DataBlocks()) != expected.row.stored_bytes)
    run.Error(path, 0, "stores another number of blocks than the catalog says");
}

// `ranges` in their order, in pieces of so many blocks.
std::vector<BlockRanges> PiecesOf(const BlockRanges& ranges, uint64_t piece_blocks) {
  std::vector<BlockRanges> pieces;
  uint64_t room = 0;
  for (auto [begin, end] : ranges) {
    while (begin < end) {
      if (room == 0) {
        pieces.emplace_back();
        room = piece_blocks;
      }
      const uint64_t blocks = std::min(room, end - begin);
      pieces.back().emplace_back(begin, begin + blocks);
      begin += blocks;
      room -= blocks;
    }
  }
  return pieces;
}

Task<absl::Status> ReadRange(DataFile& file, uint64_t begin, uint64_t end,
                             std::vector<DamagedBlock>* bad) {
  std::vector<std::byte> bytes;
  for (uint64_t block = begin; block < end;) {
    const uint64_t blocks = std::min(kReadBlocks, end - block);
    bytes.resize(BlockOffsetBytes(blocks));
    const absl::Status status = co_await file.Read(block, bytes);
    for (uint64_t one = block; !status.ok() && one < block + blocks; ++one) {
      const absl::Status single = co_await file.Read(one, std::span(bytes).first(kBlockBytes));
      if (!single.ok()) bad->push_back({one, Message(single)});
    }
    block += blocks;
  }
  co_return absl::OkStatus();
}

Task<absl::Status> ReadPiece(std::shared_ptr<DataFile> file, BlockRanges piece,
                             std::vector<DamagedBlock>* bad) {
  for (const auto& [begin, end] : piece)
    COWL_CO_RETURN_IF_ERROR(co_await ReadRange(*file, begin, end, bad));
  co_return absl::OkStatus();
}

// A file is closed on its loop.
Task<absl::Status> Close(std::shared_ptr<DataFile> file) {
  file.reset();
  co_return absl::OkStatus();
}

// What the caller reads between looks at `run` is at most a piece.
absl::Status ReadRanges(LoopSlot& slot, const std::shared_ptr<DataFile>& file,
                        const BlockRanges& ranges, std::vector<DamagedBlock>* bad, CheckRun& run) {
  for (BlockRanges& piece : PiecesOf(ranges, kCheckPieceBlocks)) {
    for (const auto& [begin, end] : piece)
      run.report.checked_bytes += BlockOffsetBytes(end - begin);
    COWL_RETURN_IF_ERROR(RunOn(slot.loop(), ReadPiece(file, std::move(piece), bad)));
    COWL_RETURN_IF_ERROR(run.Pause());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CheckReport> StoreImpl::Check(const std::string& name, bool data, bool repair,
                                             const Progress& progress) {
  if (repair) COWL_RETURN_IF_ERROR(RequireWritable());
  return Checker(*this, data, progress).Run(name, repair);
}

absl::StatusOr<CheckReport> Checker::Run(const std::string& name, bool repair) {
  COWL_RETURN_IF_ERROR(CheckCatalog(name));
  COWL_RETURN_IF_ERROR(CheckLayers(run_.layers));
  for (const DeviceRow& device : run_.devices) COWL_RETURN_IF_ERROR(CheckDevice(device));
  // What a snapshot took away from a device before it was read is a layer now.
  COWL_RETURN_IF_ERROR(CheckLayers(run_.moved));
  if (name.empty()) COWL_RETURN_IF_ERROR(CheckLeaks());
  if (repair) COWL_RETURN_IF_ERROR(Repair());
  return std::move(run_.report);
}

absl::Status Checker::CheckCatalog(const std::string& name) {
  if (name.empty()) {
    const absl::Status status = store_.catalog_->Check();
    if (absl::IsDataLoss(status)) run_.Error(store_.paths_.Of(kCatalogFile), 0, Message(status));
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
  }
  return store_.catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    std::vector<LayerRow> layers;
    if (name.empty()) {
      COWL_ASSIGN_OR_RETURN(layers, queries.Layers());
      COWL_ASSIGN_OR_RETURN(run_.devices, queries.Devices());
    } else {
      COWL_ASSIGN_OR_RETURN(const StoreImpl::Named named, store_.ResolveIn(queries, name));
      if (named.device) run_.devices = {*named.device};
      COWL_ASSIGN_OR_RETURN(
          layers, queries.Chain(named.device ? named.device->base_layer : named.image->layer));
    }
    for (const LayerRow& layer : layers) {
      run_.layers.push_back(layer.id);
      run_.total_bytes += run_.data ? layer.stored_bytes : 0;
    }
    return absl::OkStatus();
  });
}

absl::Status Checker::CheckLayers(const std::vector<Uuid>& layers) {
  if (layers.empty()) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, store_.loops_.Any());
  std::map<Uuid, BlockRanges> live;
  {
    // None of them is merged into one whose map was read before that.
    std::vector<HeldLayers::Hold> holds;
    for (const Uuid& id : layers) holds.push_back(store_.held_.Take(id));
    for (const Uuid& id : layers) COWL_RETURN_IF_ERROR(CheckLayer(*slot, id, live));
  }
  store_.ReapSoon();  // they may have lost their names meanwhile
  for (auto& [file, ranges] : live) {
    ranges = Normalized(std::move(ranges));
    COWL_RETURN_IF_ERROR(CheckDataFile(*slot, file, ranges));
    BlockRanges& in_all = run_.live[file];
    in_all.insert(in_all.end(), ranges.begin(), ranges.end());
  }
  return absl::OkStatus();
}

// The file of one layer against its row; adds what its map names to `live`.
absl::Status Checker::CheckLayer(LoopSlot& slot, const Uuid& id,
                                 std::map<Uuid, BlockRanges>& live) {
  std::shared_lock lock(store_.files_mutex_);
  const absl::StatusOr<ExpectedLayer> expected =
      store_.Read<ExpectedLayer>([&](CatalogQueries& queries) { return Expect(queries, id); });
  if (absl::IsNotFound(expected.status())) return absl::OkStatus();  // deleted meanwhile
  COWL_RETURN_IF_ERROR(expected.status());
  const std::string path = store_.paths_.DataFile(id);
  const auto maps = LoadLayerMaps(slot, {expected->row});
  if (!maps.ok()) {
    run_.unread.insert(expected->files.begin(), expected->files.end());
    COWL_ASSIGN_OR_RETURN(const std::string affected, NamesBuiltOn(id));
    run_.Error(path, 0, absl::StrCat(Message(maps.status()), affected));
    return absl::OkStatus();
  }
  const LayerMap& map = *maps->front();
  if (map.superblock.size_bytes != expected->row.size_bytes)
    run_.Error(path, 0, "says another disk size than the catalog does");
  if (!IsMerged(slot, *expected, map) && !HasGivenBack(*expected, map))
    Compare(*expected, map, path, run_);
  AddRanges(map.map, live);
  live[id];  // also where all of its data was given up
  return absl::OkStatus();
}

// Which images and devices a lost layer takes away, and the way back.
absl::StatusOr<std::string> Checker::NamesBuiltOn(const Uuid& layer) {
  std::vector<std::string> names;
  COWL_RETURN_IF_ERROR(store_.catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    const auto add = [&](const Uuid& top, std::string name) -> absl::Status {
      COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> chain, queries.Chain(top));
      const bool is_built_on_it = std::any_of(chain.begin(), chain.end(),
                                              [&](const LayerRow& row) { return row.id == layer; });
      if (is_built_on_it) names.push_back(std::move(name));
      return absl::OkStatus();
    };
    COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> images, queries.Images());
    for (const ImageRow& image : images)
      COWL_RETURN_IF_ERROR(add(image.layer, absl::StrCat("image ", image.name, ":", image.tag)));
    COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> devices, queries.Devices());
    for (const DeviceRow& device : devices) {
      if (!device.base_layer.IsNil())
        COWL_RETURN_IF_ERROR(add(device.base_layer, absl::StrCat("device ", device.name)));
    }
    return absl::OkStatus();
  }));
  if (names.empty()) return std::string();
  return absl::StrCat("; ", absl::StrJoin(names, ", "),
                      " cannot do without it: restore it from a backup, or remove them");
}

// A file that layers name, and the blocks of it that they name.
absl::Status Checker::CheckDataFile(LoopSlot& slot, const Uuid& file, const BlockRanges& ranges) {
  absl::StatusOr<std::shared_ptr<DataFile>> opened = absl::UnknownError("");
  {
    // While nobody writes to its superblock, or removes it.
    std::shared_lock lock(store_.files_mutex_);
    COWL_ASSIGN_OR_RETURN(
        const std::vector<Uuid> users,
        store_.Read<std::vector<Uuid>>([&](auto& queries) { return queries.LayersUsing(file); }));
    if (users.empty()) return absl::OkStatus();  // given up meanwhile
    opened = RunOn(slot.loop(), DataFile::Open(*slot.storage, DataFileName(file)));
  }
  if (!opened.ok()) {
    run_.Error(store_.paths_.DataFile(file), 0, Message(opened.status()));
    return absl::OkStatus();
  }
  std::vector<DamagedBlock> bad;
  absl::Status status;
  if (run_.data) status = ReadRanges(slot, *opened, ranges, &bad, run_);
  status.Update(RunOn(slot.loop(), Close(*std::move(opened))));
  COWL_RETURN_IF_ERROR(status);
  if (!bad.empty()) ReportDamage(slot, file, bad);
  return absl::OkStatus();
}

// What no map names by now may have been punched out before it was read.
void Checker::ReportDamage(LoopSlot& slot, const Uuid& file, const std::vector<DamagedBlock>& bad) {
  std::shared_lock lock(store_.files_mutex_);
  const absl::StatusOr<std::optional<BlockRanges>> live = store_.reaper_.LiveBlocks(slot, file);
  for (const DamagedBlock& block : bad) {
    const bool given_up = live.ok() && !(*live && Contains(**live, block.block));
    if (!given_up)
      run_.Error(store_.paths_.DataFile(file), BlockOffsetBytes(block.block), block.message);
  }
}

// An overlay that is a layer by now, which the catalog does not say yet. What it names of other
// files the layers below it name, too.
absl::Status Checker::CheckUnrecordedLayer(LoopSlot& slot, const Uuid& id) {
  const std::string path = store_.paths_.DataFile(id);
  const auto map = RunOn(slot.loop(), LoadLayerMap(*slot.storage, DataFileName(id)));
  if (!map.ok()) {
    run_.Error(path, 0, Message(map.status()));
    return absl::OkStatus();
  }
  auto file = RunOn(slot.loop(), DataFile::Open(*slot.storage, DataFileName(id)));
  if (!file.ok()) {
    run_.Error(path, 0, Message(file.status()));
    return absl::OkStatus();
  }
  std::map<Uuid, BlockRanges> live;
  AddRanges((*map)->map, live);
  std::vector<DamagedBlock> bad;
  absl::Status status;
  if (run_.data) status = ReadRanges(slot, *file, Normalized(std::move(live[id])), &bad, run_);
  status.Update(RunOn(slot.loop(), Close(*std::move(file))));
  for (const DamagedBlock& block : bad)
    run_.Error(path, BlockOffsetBytes(block.block), block.message);
  return status;
}

// Frees leaks. What is damaged keeps its name and its file: it may come back, from a backup or with
// the file system that it is on, and to give it up is the user's word (rmi).
absl::Status Checker::Repair() {
  if (run_.report.leaks.empty()) return absl::OkStatus();
  const absl::Status status = store_.CollectGarbage().status();
  const bool is_told = !run_.report.errors.empty();  // why it could not look at every file
  return is_told ? absl::OkStatus() : status;
}

}  // namespace cowl
