// queries.h: what can be asked of the catalog. Valid only inside Catalog::Read and Catalog::Write.
// Lists are sorted by name, or by creation where there is none. Find*: NotFound with a message for
// the user.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "absl/status/statusor.h"
#include "catalog/database.h"
#include "catalog/rows.h"

namespace cowl {

// No chain is longer; one that seems to be is a loop in a damaged file.
inline constexpr size_t kChainLayersMax = 255;

class CatalogQueries {
 public:
  explicit CatalogQueries(Database& database) : database_(database) {}

  absl::StatusOr<std::vector<LayerRow>> Layers();
  absl::StatusOr<LayerRow> FindLayer(const Uuid& id);
  // From `top` down to the layer without a parent; empty for nil.
  absl::StatusOr<std::vector<LayerRow>> Chain(const Uuid& top);
  absl::StatusOr<std::vector<LayerRow>> Children(const Uuid& layer);
  absl::StatusOr<LayerUse> UseOf(const Uuid& layer);
  // Layers that no image, device or pin names.
  absl::StatusOr<std::vector<Uuid>> UnnamedLayers();

  // The data files a layer's map names, its own included where it has one.
  absl::StatusOr<std::vector<Uuid>> FilesOf(const Uuid& layer);
  // The layers whose map names `file`.
  absl::StatusOr<std::vector<Uuid>> LayersUsing(const Uuid& file);
  // Every file that has a reason to be: of layers, of what their maps name, of overlays and their
  // successors.
  absl::StatusOr<std::unordered_set<Uuid>> NamedFiles();
  absl::StatusOr<bool> IsNamedFile(const Uuid& file);
  // Every data file that some layer's map names.
  absl::StatusOr<std::vector<Uuid>> LayerFiles();
  // The names of volumes' files.
  absl::StatusOr<std::vector<std::string>> VolumeFiles();

  absl::StatusOr<std::vector<ImageRow>> Images();
  absl::StatusOr<ImageRow> FindImage(const std::string& name, const std::string& tag);
  absl::StatusOr<std::vector<ImageRow>> ImagesOn(const Uuid& layer);
  absl::StatusOr<bool> HasImageNamed(const std::string& name);  // any tag
  // May an image of this name be put? AlreadyExists says what has it.
  absl::Status CheckImageFree(const std::string& name, const std::string& tag, bool move_tag);

  absl::StatusOr<std::vector<DeviceRow>> Devices();
  absl::StatusOr<DeviceRow> FindDevice(const std::string& name);
  absl::StatusOr<std::vector<DeviceRow>> DevicesOn(const Uuid& base_layer);
  // Those whose overlay was being sealed when somebody last wrote about them.
  absl::StatusOr<std::vector<DeviceRow>> PendingDevices();
  // May a device of this name be added? AlreadyExists says what has it.
  absl::Status CheckDeviceFree(const std::string& name);
  absl::StatusOr<bool> HasDevice(const std::string& name);

  absl::StatusOr<std::vector<PinRow>> Pins();
  // Values that belong to the store as a whole; empty when unset.
  absl::StatusOr<std::string> Setting(const std::string& key);

 protected:
  absl::StatusOr<uint64_t> CountOf(Statement statement);

  Database& database_;
};

}  // namespace cowl
