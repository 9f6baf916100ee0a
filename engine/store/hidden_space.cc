// hidden_space.cc: the layers that clones and exports leave below a device, and that are nobody's
// image. What the device has written over since is of no use to it: it does not count against the
// cap, and, where nobody else reads the layer, does not stay on the disk.
//
// A block of such a layer may go once the overlay hides it durably: an overlay never loses an entry
// but with itself, and a reset, which drops it, goes back to below the layer. So, while the device
// works: what the overlay hides is noted and flushed, the layer's map is written without it, the
// device gets a chain with the new map, and when no read uses an old one any more the blocks are
// punched. The layer's file is noted for the reaper before the first of these steps, so that the
// next opening goes on where a crash cut them off.
//
// The worker looks after each change that ends a quiet time, and again until what is hidden grows
// no more. Looking and giving back take at most some twentieth of the time.
#include "store/hidden_space.h"

#include <algorithm>
#include <shared_mutex>
#include <thread>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

using Clock = std::chrono::steady_clock;
using ChainPointer = std::shared_ptr<const ChainMap>;

// While what is hidden still grows, the layer's map is rewritten for no less than this.
constexpr uint64_t kHiddenBlocksMin = BlocksFloor(16 << 20);
constexpr uint64_t kHiddenShareMin = 8;  // one part in so many
constexpr int kRestFactor = 20;
constexpr std::chrono::seconds kRestAfterFailure{30};
constexpr std::chrono::seconds kReadPatience{60};

struct HiddenNow {
  uint64_t version = 0;
  uint64_t layer_blocks = 0;
  BlockRanges hidden;
};

// The top layer's map, as far as the chain has it.
ExtentArray TopLayerOf(const ChainMap& chain) {
  ExtentArrayBuilder builder;
  for (const Extent& extent : chain.extents.extents()) {
    if (extent.is_data() && chain.sources[extent.source()].layer_index == 0)
      builder.Add({extent.start(), extent.length(), Segment::Kind::kData, 0, extent.physical()});
  }
  return builder.Build();
}

Task<uint64_t> VersionOf(CowDevice& device) { co_return device.version(); }

Task<HiddenNow> HiddenIn(CowDevice& device) {
  HiddenNow now;
  now.version = device.version();
  const ExtentArray top = TopLayerOf(*device.chain());
  now.layer_blocks = top.DataBlocks();
  now.hidden = device.HiddenIn(top);
  co_return now;
}

Task<absl::StatusOr<BlockRanges>> DurablyHidden(CowDevice& device) {
  const ExtentArray top = TopLayerOf(*device.chain());
  co_return co_await device.DurablyHiddenIn(top);
}

Task<absl::Status> SwapChain(CowDevice& device, ChainPointer chain, DeviceCap cap) {
  device.ReplaceChain(std::move(chain));
  device.SetCap(std::move(cap));
  device.BeginGeneration();
  co_return absl::OkStatus();
}

Task<bool> HaveFormerEnded(CowDevice& device) { co_return device.HaveFormerEnded(); }

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

// Requests that began before the chain was swapped may still read what it no longer names.
absl::Status WaitForRequests(Disk& disk) {
  const auto patience_ends = Clock::now() + kReadPatience;
  while (!RunOn(disk.slot->loop(), HaveFormerEnded(*disk.cow))) {
    if (Clock::now() > patience_ends)
      return absl::DeadlineExceededError("a request that reads the layer below does not end");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return absl::OkStatus();
}

// The layer right below the device's overlay, when nobody but the device reads it.
absl::StatusOr<std::optional<LayerRow>> SoleBase(CatalogQueries& queries, const DeviceRow& row) {
  if (row.base_layer.IsNil() || row.base_layer == row.image_layer || !row.pending_overlay.IsNil())
    return std::nullopt;
  COWL_ASSIGN_OR_RETURN(const LayerUse use, queries.UseOf(row.base_layer));
  const bool is_sole = use.device_base_count == 1 && use.device_image_count == 0 &&
                       use.image_count == 0 && use.pin_count == 0 && use.child_count == 0;
  if (!is_sole) return std::nullopt;
  COWL_ASSIGN_OR_RETURN(LayerRow layer, queries.FindLayer(row.base_layer));
  return layer;
}

}  // namespace

// One check of a device is due at most.
void HiddenSpace::CheckSoon(const std::shared_ptr<DeviceEntry>& entry,
                            std::chrono::milliseconds delay) {
  if (store_.options_.read_only || entry->check_is_due.exchange(true)) return;
  store_.worker_.PostAfter(delay, [this, weak = std::weak_ptr(entry)] {
    const std::shared_ptr<DeviceEntry> alive = weak.lock();
    if (alive == nullptr) return;
    alive->check_is_due = false;
    Check(alive);
  });
}

void HiddenSpace::CheckAllSoon() {
  for (const std::string& name : store_.devices_.Names()) {
    const std::shared_ptr<DeviceEntry> entry = store_.devices_.Find(name);
    if (entry != nullptr) CheckSoon(entry);
  }
}

// Runs on the worker, which waits for no verb here.
void HiddenSpace::Check(const std::shared_ptr<DeviceEntry>& entry) {
  LockedDevice device{entry, std::unique_lock(entry->gate, std::try_to_lock), {}};
  if (!device.gate.owns_lock()) return CheckSoon(entry);
  if (entry->disk == nullptr || entry->disk->cow == nullptr) return;
  const absl::StatusOr<std::chrono::milliseconds> next = LookAt(device);
  if (!next.ok()) {
    Warn("device " + entry->name + ": freeing what it has written over", next.status());
    entry->hidden.next_attempt = Clock::now() + kRestAfterFailure;
    CheckSoon(entry, kRestAfterFailure);
  } else if (next->count() > 0) {
    CheckSoon(entry, *next);
  }
}

// Reads the device's row anew.
absl::StatusOr<std::optional<LayerRow>> HiddenSpace::ReadSoleBase(LockedDevice& device) {
  std::optional<LayerRow> layer;
  COWL_RETURN_IF_ERROR(store_.catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(device.row, queries.FindDevice(device.entry->name));
    COWL_ASSIGN_OR_RETURN(layer, SoleBase(queries, device.row));
    return absl::OkStatus();
  }));
  return layer;
}

// Returns when to look again; 0: not before something happens.
absl::StatusOr<std::chrono::milliseconds> HiddenSpace::LookAt(LockedDevice& device) {
  constexpr std::chrono::milliseconds kNotBefore{0};
  HiddenWatch& watch = device.entry->hidden;
  const std::shared_ptr<Disk> disk = device.entry->disk;
  Loop& loop = disk->slot->loop();
  COWL_ASSIGN_OR_RETURN(const std::optional<LayerRow> layer, ReadSoleBase(device));
  COWL_ASSIGN_OR_RETURN(DeviceCap cap, store_.CapOf(device.row));
  COWL_RETURN_IF_ERROR(RunOn(loop, SetCapOnLoop(*disk->cow, std::move(cap))));
  if (!layer) return kNotBefore;
  const auto begin = Clock::now();
  const auto rest = [&] {
    const auto taken = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
    return std::max<std::chrono::milliseconds>(kQuiet, taken * kRestFactor);
  };
  HiddenNow now;
  now.version = RunOn(loop, VersionOf(*disk->cow));
  const bool is_same = now.version == watch.seen_version;
  uint64_t hidden_blocks = watch.hidden_blocks;
  if (!is_same) {
    now = RunOn(loop, HiddenIn(*disk->cow));
    hidden_blocks = BlocksIn(now.hidden);
  }
  const bool has_settled = hidden_blocks == watch.hidden_blocks;
  const bool is_much =
      hidden_blocks >= kHiddenBlocksMin && hidden_blocks >= now.layer_blocks / kHiddenShareMin;
  watch.seen_version = now.version;
  watch.hidden_blocks = hidden_blocks;
  const bool is_due = hidden_blocks > 0 && (has_settled || is_much);
  if (is_due && begin >= watch.next_attempt) {
    COWL_RETURN_IF_ERROR(GiveBack(device));
    // Looked at anew: a layer that a check held just now has given back nothing.
    watch = HiddenWatch();
    watch.next_attempt = Clock::now() + rest();
    return rest();
  }
  if (hidden_blocks > 0) return rest();
  const auto check = [this, weak = std::weak_ptr(device.entry)] {
    if (const std::shared_ptr<DeviceEntry> entry = weak.lock()) CheckSoon(entry);
  };
  COWL_RETURN_IF_ERROR(RunOn(loop, WatchOnLoop(*disk->cow, now.version, check)));
  return kNotBefore;
}

absl::Status HiddenSpace::GiveBack(LockedDevice& device) {
  Disk& disk = *device.entry->disk;
  COWL_ASSIGN_OR_RETURN(std::optional<LayerRow> layer, ReadSoleBase(device));
  if (!layer) return absl::OkStatus();
  // Before the lock: whose flush hangs holds up nobody else.
  COWL_ASSIGN_OR_RETURN(const BlockRanges hidden,
                        RunOn(disk.slot->loop(), DurablyHidden(*disk.cow)));
  std::unique_lock lock(store_.files_mutex_);
  COWL_ASSIGN_OR_RETURN(layer, ReadSoleBase(device));
  if (!layer || hidden.empty() || store_.held_.IsHeld(layer->id)) return absl::OkStatus();
  COWL_ASSIGN_OR_RETURN(std::vector<Uuid> files,
                        store_.Read<std::vector<Uuid>>(
                            [&](CatalogQueries& queries) { return queries.FilesOf(layer->id); }));
  files.push_back(layer->id);
  COWL_RETURN_IF_ERROR(store_.catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    for (const Uuid& file : files) COWL_RETURN_IF_ERROR(Reaper::NoteForReclaim(edits, file));
    return absl::OkStatus();
  }));
  absl::Status dropped = Drop(device, *layer, hidden);
  if (absl::IsResourceExhausted(dropped) && store_.MakeRoom())
    dropped = Drop(device, *layer, hidden);
  COWL_RETURN_IF_ERROR(dropped);
  COWL_ASSIGN_OR_RETURN(ChainPointer chain, store_.LoadChain(*disk.slot, layer->id));
  COWL_ASSIGN_OR_RETURN(DeviceCap cap, store_.CapOf(device.row));
  COWL_RETURN_IF_ERROR(
      RunOn(disk.slot->loop(), SwapChain(*disk.cow, std::move(chain), std::move(cap))));
  lock.unlock();
  COWL_RETURN_IF_ERROR(WaitForRequests(disk));
  store_.ReapSoon();
  return absl::OkStatus();
}

void HiddenSpace::LostReader(const Uuid& layer) {
  std::lock_guard lock(lost_readers_mutex_);
  if (!layer.IsNil()) lost_readers_.insert(layer);
}

void HiddenSpace::SettleOnLostReaders() {
  std::set<Uuid> layers = store_.reaper_.TakeBereaved();
  {
    std::lock_guard lock(lost_readers_mutex_);
    layers.merge(std::exchange(lost_readers_, {}));
  }
  for (const Uuid& layer : layers) {
    const auto devices = store_.Read<std::vector<DeviceRow>>(
        [&](CatalogQueries& queries) { return queries.DevicesOn(layer); });
    if (devices.ok() && devices->size() == 1) SettleSoleReader(devices->front().name);
  }
}

void HiddenSpace::SettleAll() {
  const auto devices = store_.Read<std::vector<DeviceRow>>(
      [](CatalogQueries& queries) { return queries.Devices(); });
  if (!devices.ok()) return;  // the reaper says so
  for (const DeviceRow& row : *devices) {
    if (row.kind == DeviceRow::Kind::kOverlay) SettleSoleReader(row.name);
  }
}

void HiddenSpace::SettleSoleReader(const std::string& name) {
  const auto give_back = [&]() -> absl::Status {
    COWL_ASSIGN_OR_RETURN(LockedDevice device, store_.LockDevice(name));
    COWL_ASSIGN_OR_RETURN(const std::optional<LayerRow> layer, ReadSoleBase(device));
    if (!layer) return absl::OkStatus();
    if (device.entry->disk != nullptr) return GiveBack(device);
    if (!device.row.overlay_written) return absl::OkStatus();
    COWL_RETURN_IF_ERROR(store_.EnsureOpen(device));
    store_.Settle(device);
    return absl::OkStatus();
  };
  const absl::Status status = give_back();
  if (!status.ok() && !absl::IsNotFound(status))
    Warn(absl::StrCat("device ", name, ": freeing what it has written over"), status);
}

// Writes the layer's map anew, without what the overlay hides. REQUIRES: store_.files_mutex_ is
// held exclusively.
absl::Status HiddenSpace::Drop(LockedDevice& device, LayerRow layer, const BlockRanges& hidden) {
  LoopSlot& slot = *device.entry->disk->slot;
  COWL_ASSIGN_OR_RETURN(const auto maps, LoadLayerMaps(slot, {layer}));
  FileMap seen = WithoutRanges(maps[0]->map, hidden);
  layer.stored_bytes = BlockOffsetBytes(seen.extents.DataBlocks());
  const std::vector<Uuid> files = seen.files;
  COWL_RETURN_IF_ERROR(RunOn(slot.loop(), RewriteMap(*slot.storage, DataFileName(layer.id),
                                                     std::move(seen), layer.parent)));
  store_.chains_.Forget(layer.id);
  return store_.catalog_->Write(
      [&](CatalogEdits& edits) { return edits.UpdateLayer(layer, files); });
}

}  // namespace cowl
