// own_layers.cc: the layers that clones and exports leave below a device, and that nobody else
// names. What the device has written over since is of no use to anybody: it neither counts against
// the cap nor stays on the disk.
//
// A block of such a layer may go once the overlay hides it durably: an overlay never loses an entry
// but with itself, and a reset, which drops it, goes back to below the layer. So, while the device
// works: what the overlay hides is noted and flushed, the layer's map is written without it, the
// device gets a chain with the new map, and when no read uses the old one any more the blocks are
// punched. A crash between two of these steps leaves at most blocks that gc punches.
#include <shared_mutex>
#include <thread>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

// Space is to be back within two seconds of the discard that freed it.
constexpr std::chrono::milliseconds kQuiet{500};
// Under a load that never pauses, the layer's map is rewritten for no less than this.
constexpr uint64_t kHiddenBlocksMin = BlocksFloor(16 << 20);
constexpr uint64_t kHiddenShareMin = 8;  // one part in so many
constexpr std::chrono::seconds kReadPatience{10};

using ChainPointer = std::shared_ptr<const ChainMap>;

// What the overlay hides of the layer below it.
struct HiddenNow {
  uint64_t version = 0;
  uint64_t layer_blocks = 0;
  uint64_t hidden_blocks = 0;
  bool is_sealing = false;
};

ExtentArray TopLayerOf(const ChainMap& chain) {
  ExtentArrayBuilder builder;
  for (const Extent& extent : chain.extents.extents()) {
    if (extent.is_data() && chain.sources[extent.source()].layer_index == 0)
      builder.Add({extent.start(), extent.length(), Segment::Kind::kData, 0, extent.physical()});
  }
  return builder.Build();
}

Task<HiddenNow> LookAtHidden(CowDevice& device) {
  HiddenNow now;
  now.version = device.version();
  now.is_sealing = device.is_sealing();
  const ExtentArray top = TopLayerOf(*device.chain());
  now.layer_blocks = top.DataBlocks();
  for (const auto& [begin, end] : device.HiddenIn(top)) now.hidden_blocks += end - begin;
  co_return now;
}

// Returns the chain that reads under way may still use.
Task<std::weak_ptr<const ChainMap>> SwapChain(CowDevice& device, ChainPointer chain) {
  const std::weak_ptr<const ChainMap> old = device.chain();
  device.ReplaceChain(std::move(chain));
  co_return old;
}

Task<absl::Status> SetCapOnLoop(CowDevice& device, DeviceCap cap) {
  device.SetCap(std::move(cap));
  co_return absl::OkStatus();
}

Task<absl::Status> WatchOnLoop(CowDevice& device, uint64_t seen_version,
                               std::function<void()> watch) {
  if (device.version() == seen_version) {
    device.WatchNextChange(std::move(watch));
  } else {
    watch();
  }
  co_return absl::OkStatus();
}

}  // namespace

// From a device's base down to what a reset goes back to, without what is somebody's image.
absl::StatusOr<std::vector<LayerRow>> StoreImpl::OwnLayers(CatalogQueries& queries,
                                                           const DeviceRow& row) {
  std::vector<LayerRow> own;
  if (row.base_layer == row.image_layer) return own;
  COWL_ASSIGN_OR_RETURN(std::vector<LayerRow> chain, queries.Chain(row.base_layer));
  for (LayerRow& layer : chain) {
    if (layer.id == row.image_layer) break;
    COWL_ASSIGN_OR_RETURN(const LayerUse use, queries.UseOf(layer.id));
    if (use.image_count == 0) own.push_back(std::move(layer));
  }
  return own;
}

absl::StatusOr<uint64_t> StoreImpl::StoredBelow(CatalogQueries& queries, const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> own, OwnLayers(queries, row));
  uint64_t bytes = 0;
  for (const LayerRow& layer : own) bytes += layer.stored_bytes;
  return bytes;
}

// Tells an open device which layers are its own, after each change of them. REQUIRES: the row is as
// it is now.
absl::Status StoreImpl::RefreshCap(LockedDevice& device) {
  Disk& disk = *device.entry->disk;
  if (disk.cow == nullptr) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(
      const std::vector<LayerRow> own,
      Read<std::vector<LayerRow>>([&](CatalogQueries& q) { return OwnLayers(q, device.row); }));
  DeviceCap cap;
  cap.blocks_max = BlocksFloor(device.row.cap_bytes);
  for (const LayerRow& layer : own) cap.own_layers.push_back(layer.id);
  disk.has_own_layers = !own.empty();
  COWL_RETURN_IF_ERROR(RunOn(disk.slot->loop(), SetCapOnLoop(*disk.cow, std::move(cap))));
  if (disk.has_own_layers && !options_.read_only) CheckHiddenSoon(device.entry, kNoVersion);
  return absl::OkStatus();
}

void StoreImpl::CheckHiddenSoon(const std::weak_ptr<DeviceEntry>& entry, uint64_t seen_version) {
  worker_.PostAfter(kQuiet, [this, entry, seen_version] {
    const std::shared_ptr<DeviceEntry> alive = entry.lock();
    if (alive != nullptr) CheckHidden(alive, seen_version);
  });
}

void StoreImpl::CheckHiddenOfAll() {
  for (const std::string& name : devices_.Names()) {
    const std::shared_ptr<DeviceEntry> entry = devices_.Find(name);
    if (entry != nullptr) CheckHiddenSoon(entry, kNoVersion);
  }
}

// Runs on the worker: at once when the device has changed nothing for a while, under load only
// when it pays, and again after the next change. `seen_version`: what the last look found.
void StoreImpl::CheckHidden(const std::shared_ptr<DeviceEntry>& entry, uint64_t seen_version) {
  LockedDevice device{entry, std::unique_lock(entry->gate), {}};
  const std::shared_ptr<Disk> disk = entry->disk;
  if (disk == nullptr || !disk->has_own_layers) return;
  const HiddenNow now = RunOn(disk->slot->loop(), LookAtHidden(*disk->cow));
  const bool is_quiet = now.version == seen_version;
  const bool is_much = now.hidden_blocks >= kHiddenBlocksMin &&
                       now.hidden_blocks >= now.layer_blocks / kHiddenShareMin;
  if (!is_quiet && !is_much) return CheckHiddenSoon(entry, now.version);
  if (now.hidden_blocks > 0 && !now.is_sealing) {
    const absl::Status status = GiveBackHidden(device);
    if (!status.ok()) Warn("device " + entry->name + ": freeing what it has written over", status);
  }
  const auto watch = [this, weak = std::weak_ptr(entry)] { CheckHiddenSoon(weak, kNoVersion); };
  RunOn(disk->slot->loop(), WatchOnLoop(*disk->cow, now.version, watch)).IgnoreError();
}

// The layer right below the device's overlay, when nobody but the device reads it.
absl::StatusOr<std::optional<LayerRow>> StoreImpl::SoleBase(CatalogQueries& queries,
                                                            const DeviceRow& row) {
  if (row.base_layer.IsNil() || row.base_layer == row.image_layer || !row.pending_overlay.IsNil())
    return std::nullopt;
  COWL_ASSIGN_OR_RETURN(const LayerUse use, queries.UseOf(row.base_layer));
  const bool is_sole = use.device_base_count == 1 && use.device_image_count == 0 &&
                       use.image_count == 0 && use.pin_count == 0 && use.child_count == 0;
  if (!is_sole) return std::nullopt;
  COWL_ASSIGN_OR_RETURN(LayerRow layer, queries.FindLayer(row.base_layer));
  return layer;
}

// REQUIRES: the device is open; runs where the reaper does.
absl::Status StoreImpl::GiveBackHidden(LockedDevice& device) {
  Disk& disk = *device.entry->disk;
  Loop& loop = disk.slot->loop();
  std::vector<Uuid> files;
  std::weak_ptr<const ChainMap> old;
  {
    std::unique_lock lock(files_mutex_);
    std::optional<LayerRow> layer;
    COWL_RETURN_IF_ERROR(catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
      COWL_ASSIGN_OR_RETURN(device.row, queries.FindDevice(device.entry->name));
      COWL_ASSIGN_OR_RETURN(layer, SoleBase(queries, device.row));
      if (!layer) return absl::OkStatus();
      COWL_ASSIGN_OR_RETURN(files, queries.FilesOf(layer->id));
      return absl::OkStatus();
    }));
    if (!layer || held_.IsHeld(layer->id)) return absl::OkStatus();
    files.push_back(layer->id);
    COWL_ASSIGN_OR_RETURN(const bool changed, DropHidden(disk, *layer));
    if (!changed) return absl::OkStatus();
    COWL_ASSIGN_OR_RETURN(ChainPointer chain, LoadChain(*disk.slot, layer->id));
    old = RunOn(loop, SwapChain(*disk.cow, std::move(chain)));
  }
  const auto patience_ends = std::chrono::steady_clock::now() + kReadPatience;
  while (!old.expired()) {
    if (std::chrono::steady_clock::now() > patience_ends)
      return absl::DeadlineExceededError("a read of the layer below takes too long");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    for (const Uuid& file : files) COWL_RETURN_IF_ERROR(Reaper::NoteForReclaim(edits, file));
    return absl::OkStatus();
  }));
  COWL_RETURN_IF_ERROR(reaper_.Run().status());
  return RefreshCap(device);
}

// Writes the layer's map anew, without what the overlay hides; false when that is nothing.
// REQUIRES: files_mutex_ is held exclusively.
absl::StatusOr<bool> StoreImpl::DropHidden(Disk& disk, LayerRow layer) {
  Loop& loop = disk.slot->loop();
  COWL_ASSIGN_OR_RETURN(const auto maps, LoadLayerMaps(*disk.slot, {layer}));
  const FileMap& map = maps[0]->map;
  COWL_ASSIGN_OR_RETURN(const BlockRanges hidden,
                        RunOn(loop, disk.cow->DurablyHiddenIn(map.extents)));
  if (hidden.empty()) return false;
  FileMap seen = WithoutRanges(map, hidden);
  layer.stored_bytes = BlockOffsetBytes(seen.extents.DataBlocks());
  const std::vector<Uuid> files = seen.files;
  COWL_RETURN_IF_ERROR(RunOn(loop, RewriteMap(*disk.slot->storage, DataFileName(layer.id),
                                              std::move(seen), layer.parent)));
  chains_.Forget(layer.id);
  COWL_RETURN_IF_ERROR(
      catalog_->Write([&](CatalogEdits& edits) { return edits.UpdateLayer(layer, files); }));
  return true;
}

}  // namespace cowl
