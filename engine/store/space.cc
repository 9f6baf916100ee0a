// space.cc: where the disk's space went. Shared data counts once in the total, and in full for
// everything that uses it; `reclaimable` is what removing that one thing would free, and in the
// total what gc would.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <shared_mutex>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "store/disk.h"
#include "store/layer_index.h"
#include "store/shared_data.h"
#include "store/staging.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

// One thing that keeps layers: an image, or a device.
struct Root {
  SpaceInfo info;
  std::set<const LayerRow*> layers;  // all that it keeps
};

struct Inventory {
  LayerIndex layers;
  std::vector<ImageRow> images;
  std::vector<DeviceRow> devices;
  std::vector<PinRow> pins;
  std::unordered_map<Uuid, std::vector<Uuid>> files;  // by layer

  std::vector<LayerRow> Rows() const {
    std::vector<LayerRow> rows;
    for (const auto& [id, row] : layers.rows()) rows.push_back(row);
    return rows;
  }
};

absl::StatusOr<Inventory> TakeInventory(CatalogQueries& queries) {
  Inventory inventory;
  COWL_ASSIGN_OR_RETURN(inventory.layers, LayerIndex::Load(queries));
  COWL_ASSIGN_OR_RETURN(inventory.images, queries.Images());
  COWL_ASSIGN_OR_RETURN(inventory.devices, queries.Devices());
  COWL_ASSIGN_OR_RETURN(inventory.pins, queries.Pins());
  for (const auto& [id, row] : inventory.layers.rows()) {
    COWL_ASSIGN_OR_RETURN(inventory.files[id], queries.FilesOf(id));
  }
  return inventory;
}

absl::Status AddChain(const LayerIndex& layers, const Uuid& top, Root* root) {
  COWL_ASSIGN_OR_RETURN(const std::vector<const LayerRow*> chain, layers.Chain(top));
  root->layers.insert(chain.begin(), chain.end());
  return absl::OkStatus();
}

absl::StatusOr<Root> RootOfImage(const Inventory& inventory, const StorePaths& paths,
                                 const ImageRow& image) {
  Root root;
  root.info.name = image.ToString();
  COWL_RETURN_IF_ERROR(AddChain(inventory.layers, image.layer, &root));
  COWL_ASSIGN_OR_RETURN(const LayerRow* const top, inventory.layers.Find(image.layer));
  root.info.logical_bytes = top->size_bytes;
  std::set<Uuid> files;
  for (const LayerRow* const layer : root.layers) {
    root.info.stored_bytes += layer->stored_bytes;
    const std::vector<Uuid>& named = inventory.files.at(layer->id);
    files.insert(named.begin(), named.end());
  }
  for (const Uuid& file : files) root.info.disk_bytes += DiskBytesOf(paths.DataFile(file));
  return root;
}

absl::StatusOr<Root> RootOfDevice(const Inventory& inventory, const StorePaths& paths,
                                  const DeviceInfo& device) {
  Root root;
  root.info = {device.name, device.size_bytes, device.stored_bytes, device.disk_bytes,
               device.disk_bytes};
  // Both lists are sorted by name; the device may be newer than the inventory.
  const auto row = std::lower_bound(
      inventory.devices.begin(), inventory.devices.end(), device.name,
      [](const DeviceRow& candidate, const std::string& name) { return candidate.name < name; });
  if (row == inventory.devices.end() || row->name != device.name) return root;
  // Of the layers that are its own LinesOf tells what is freed with it.
  if (row->kind == DeviceRow::Kind::kOverlay)
    root.info.reclaimable_bytes = DiskBytesOf(paths.DataFile(row->overlay));
  COWL_RETURN_IF_ERROR(AddChain(inventory.layers, row->base_layer, &root));
  COWL_RETURN_IF_ERROR(AddChain(inventory.layers, row->image_layer, &root));
  return root;
}

// How many things keep each layer.
using Keepers = std::map<const LayerRow*, int>;

absl::StatusOr<Keepers> CountKeepers(const Inventory& inventory, const std::vector<Root>& images,
                                     const std::vector<Root>& devices) {
  Keepers keepers;
  for (const std::vector<Root>* const roots : {&images, &devices}) {
    for (const Root& root : *roots) {
      for (const LayerRow* const layer : root.layers) ++keepers[layer];
    }
  }
  for (const PinRow& pin : inventory.pins) {
    COWL_ASSIGN_OR_RETURN(const std::vector<const LayerRow*> chain,
                          inventory.layers.Chain(pin.layer));
    for (const LayerRow* const layer : chain) ++keepers[layer];
  }
  return keepers;
}

// The lines of the report, each with what removing that one thing would free.
std::vector<SpaceInfo> LinesOf(const std::vector<Root>& roots, const Keepers& keepers,
                               const SharedData& shared) {
  std::vector<SpaceInfo> lines;
  for (const Root& root : roots) {
    SpaceInfo& info = lines.emplace_back(root.info);
    std::set<Uuid> sharing;
    for (const LayerRow* const layer : root.layers) {
      if (keepers.at(layer) != 1) continue;
      if (shared.Has(layer->id)) {
        sharing.insert(layer->id);
      } else {
        info.reclaimable_bytes += layer->stored_bytes;
      }
    }
    if (!sharing.empty()) info.reclaimable_bytes += shared.BytesOfOnly(sharing);
  }
  return lines;
}

uint64_t DiskBytesBelow(const std::string& directory) {
  std::error_code error;
  uint64_t bytes = 0;
  std::filesystem::recursive_directory_iterator entries(directory, error);
  for (; !error && entries != std::filesystem::recursive_directory_iterator();
       entries.increment(error)) {
    bytes += DiskBytesOf(entries->path());
  }
  return bytes;
}

}  // namespace

absl::StatusOr<DiskUsage> StoreImpl::Usage() {
  std::shared_lock lock(files_mutex_);  // the maps are those of the inventory
  COWL_ASSIGN_OR_RETURN(const Inventory inventory, Read<Inventory>(TakeInventory));
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, loops_.Any());
  const SharedData shared(*slot, inventory.Rows(), inventory.files);
  lock.unlock();
  COWL_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> device_infos, Devices());
  std::vector<Root> images;
  for (const ImageRow& image : inventory.images) {
    COWL_ASSIGN_OR_RETURN(images.emplace_back(), RootOfImage(inventory, paths_, image));
  }
  std::vector<Root> devices;
  for (const DeviceInfo& device : device_infos) {
    COWL_ASSIGN_OR_RETURN(devices.emplace_back(), RootOfDevice(inventory, paths_, device));
  }
  COWL_ASSIGN_OR_RETURN(const Keepers keepers, CountKeepers(inventory, images, devices));
  DiskUsage usage;
  usage.images = LinesOf(images, keepers, shared);
  usage.devices = LinesOf(devices, keepers, shared);
  COWL_RETURN_IF_ERROR(AddTotals(usage, device_infos, shared));
  return usage;
}

absl::Status StoreImpl::AddTotals(DiskUsage& usage, const std::vector<DeviceInfo>& devices,
                                  const SharedData& shared) {
  usage.total.name = paths_.root;
  for (const std::vector<SpaceInfo>* const lines : {&usage.images, &usage.devices}) {
    for (const SpaceInfo& line : *lines) usage.total.logical_bytes += line.logical_bytes;
  }
  COWL_ASSIGN_OR_RETURN(usage.total.stored_bytes, StoredInAll(devices, shared));
  usage.total.disk_bytes = DiskBytesBelow(paths_.root);
  COWL_ASSIGN_OR_RETURN(usage.total.reclaimable_bytes, UnnamedBytes());
  COWL_ASSIGN_OR_RETURN(const HostSpace space, SpaceOf(paths_.root));
  usage.host_free_bytes = space.free_bytes;
  usage.host_total_bytes = space.total_bytes;
  return absl::OkStatus();
}

// What all layers and devices store, each thing once.
absl::StatusOr<uint64_t> StoreImpl::StoredInAll(const std::vector<DeviceInfo>& devices,
                                                const SharedData& shared) {
  uint64_t bytes = shared.bytes();
  for (const DeviceInfo& device : devices) bytes += device.stored_bytes;
  COWL_RETURN_IF_ERROR(catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> layers, queries.Layers());
    for (const LayerRow& layer : layers) bytes += shared.Has(layer.id) ? 0 : layer.stored_bytes;
    // What lies below a device as unnamed layers was counted with it, and as layers.
    COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> rows, queries.Devices());
    for (const DeviceRow& row : rows) {
      COWL_ASSIGN_OR_RETURN(const Below below, WhatIsBelow(queries, row));
      bytes -= std::min(below.stored_bytes, bytes);
    }
    return absl::OkStatus();
  }));
  return bytes;
}

// The disk space of data files that no row names, and of what killed imports left.
absl::StatusOr<uint64_t> StoreImpl::UnnamedBytes() {
  COWL_ASSIGN_OR_RETURN(
      const std::unordered_set<Uuid> named,
      Read<std::unordered_set<Uuid>>([](CatalogQueries& q) { return q.NamedFiles(); }));
  COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(paths_.Of(kLayersFolder)));
  uint64_t bytes = FindAbandoned(paths_.root).disk_bytes;
  for (const std::string& name : names) {
    const std::optional<Uuid> id = Uuid::Parse(name.substr(0, name.find('.')));
    if (!id || !named.contains(*id)) bytes += DiskBytesOf(paths_.Of(kLayersFolder) + "/" + name);
  }
  return bytes;
}

absl::StatusOr<uint64_t> StoreImpl::CollectGarbage() {
  COWL_RETURN_IF_ERROR(RequireWritable());
  worker_.Wait(std::chrono::seconds(2));
  // On the worker, where the reaper always runs.
  absl::StatusOr<uint64_t> freed_bytes = uint64_t{0};
  std::mutex mutex;
  std::condition_variable done_changed;
  bool done = false;
  worker_.Post([&] {
    hidden_.SettleAll();
    absl::StatusOr<uint64_t> bytes = reaper_.CollectGarbage();
    const uint64_t staged_bytes = RemoveAbandoned(paths_.root).disk_bytes;
    if (bytes.ok()) *bytes += staged_bytes;
    reserve_.Refill();
    std::lock_guard lock(mutex);
    freed_bytes = std::move(bytes);
    done = true;
    done_changed.notify_one();
  });
  std::unique_lock lock(mutex);
  done_changed.wait(lock, [&] { return done; });
  COWL_RETURN_IF_ERROR(freed_bytes.status());
  // What the opening found is what a crash left, too.
  return *freed_bytes + recovered_bytes_.exchange(0);
}

}  // namespace cowl
