// space.cc: where the disk's space went. Shared data counts once in the total, and in full for
// everything that uses it; `reclaimable` is what removing that one thing would free, and in the
// total what gc would.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "store/disk.h"
#include "store/layer_index.h"
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
  COWL_ASSIGN_OR_RETURN(const Inventory inventory, Read<Inventory>(TakeInventory));
  COWL_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> device_infos, Devices());
  DiskUsage usage;
  std::vector<Root> roots;
  for (const ImageRow& image : inventory.images) {
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
    for (const Uuid& file : files) root.info.disk_bytes += DiskBytesOf(paths_.DataFile(file));
    roots.push_back(std::move(root));
  }
  const size_t image_count = roots.size();
  for (const DeviceInfo& device : device_infos) {
    Root root;
    root.info = {device.name, device.size_bytes, device.stored_bytes, device.disk_bytes,
                 device.disk_bytes};
    // Both lists are sorted by name.
    const auto row = std::lower_bound(
        inventory.devices.begin(), inventory.devices.end(), device.name,
        [](const DeviceRow& candidate, const std::string& name) { return candidate.name < name; });
    if (row != inventory.devices.end() && row->name == device.name) {
      COWL_RETURN_IF_ERROR(AddChain(inventory.layers, row->base_layer, &root));
      COWL_RETURN_IF_ERROR(AddChain(inventory.layers, row->image_layer, &root));
    }
    roots.push_back(std::move(root));
  }
  std::map<const LayerRow*, int> keepers;
  for (const Root& root : roots) {
    for (const LayerRow* const layer : root.layers) ++keepers[layer];
  }
  for (const PinRow& pin : inventory.pins) {
    COWL_ASSIGN_OR_RETURN(const std::vector<const LayerRow*> chain,
                          inventory.layers.Chain(pin.layer));
    for (const LayerRow* const layer : chain) ++keepers[layer];
  }
  for (size_t i = 0; i < roots.size(); ++i) {
    Root& root = roots[i];
    for (const LayerRow* const layer : root.layers) {
      if (keepers[layer] == 1) root.info.reclaimable_bytes += layer->stored_bytes;
    }
    usage.total.logical_bytes += root.info.logical_bytes;
    (i < image_count ? usage.images : usage.devices).push_back(root.info);
  }
  COWL_RETURN_IF_ERROR(AddTotals(usage, device_infos));
  return usage;
}

absl::Status StoreImpl::AddTotals(DiskUsage& usage, const std::vector<DeviceInfo>& devices) {
  usage.total.name = paths_.root;
  std::unordered_set<Uuid> named;
  COWL_RETURN_IF_ERROR(catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> layers, queries.Layers());
    for (const LayerRow& layer : layers) usage.total.stored_bytes += layer.stored_bytes;
    COWL_ASSIGN_OR_RETURN(named, queries.NamedFiles());
    return absl::OkStatus();
  }));
  for (const DeviceInfo& device : devices) usage.total.stored_bytes += device.stored_bytes;
  // What lies below a device as unnamed layers was counted with it, and as layers.
  COWL_RETURN_IF_ERROR(catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> rows, queries.Devices());
    for (const DeviceRow& row : rows) {
      COWL_ASSIGN_OR_RETURN(const uint64_t below_bytes, StoredBelow(queries, row));
      usage.total.stored_bytes -= std::min(below_bytes, usage.total.stored_bytes);
    }
    return absl::OkStatus();
  }));
  usage.total.disk_bytes = DiskBytesBelow(paths_.root);
  COWL_ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(paths_.Of(kLayersFolder)));
  for (const std::string& name : names) {
    const std::optional<Uuid> id = Uuid::Parse(name.substr(0, name.find('.')));
    if (!id || !named.contains(*id))
      usage.total.reclaimable_bytes +=
          DiskBytesOf(absl::StrCat(paths_.Of(kLayersFolder), "/", name));
  }
  COWL_ASSIGN_OR_RETURN(const HostSpace space, SpaceOf(paths_.root));
  usage.host_free_bytes = space.free_bytes;
  usage.host_total_bytes = space.total_bytes;
  return absl::OkStatus();
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
    absl::StatusOr<uint64_t> bytes = reaper_.CollectGarbage();
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
