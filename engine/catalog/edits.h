// edits.h: what can be changed in the catalog. Valid only inside Catalog::Write; what fails leaves
// the transaction to be rolled back. References hold at every commit: a layer that a child, an
// image, a device or a pin refers to cannot go (FailedPrecondition). Images and devices share one
// name space: a device may not have the name of any image, whatever its tag, nor the other way
// round.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "catalog/queries.h"

namespace cowl {

class CatalogEdits : public CatalogQueries {
 public:
  using CatalogQueries::CatalogQueries;

  // `files`: the data files its map names.
  absl::Status AddLayer(const LayerRow& layer, const std::vector<Uuid>& files);
  // All but the id; `files` replaces the list.
  absl::Status UpdateLayer(const LayerRow& layer, const std::vector<Uuid>& files);
  absl::Status RemoveLayer(const Uuid& id);

  // Fails when NAME:TAG is taken, unless `move_tag`.
  absl::Status PutImage(const ImageRow& image, bool move_tag);
  absl::Status RemoveImage(const std::string& name, const std::string& tag);

  // Devices that were made from the one are said to be made from the other.
  absl::Status RenameOrigin(const std::string& old_image, const std::string& new_image);

  absl::Status AddDevice(const DeviceRow& device);
  absl::Status UpdateDevice(const DeviceRow& device);  // all but the name
  // Its file exists and is durable. By overlay, for the device may be renamed meanwhile.
  absl::Status MarkOverlayWritten(const Uuid& overlay);
  absl::Status RenameDevice(const std::string& old_name, const std::string& new_name);
  absl::Status RemoveDevice(const std::string& name);

  absl::Status AddPin(const PinRow& pin);
  absl::Status RemovePin(const std::string& token);
  absl::Status SetSetting(const std::string& key, const std::string& value);

 private:
  absl::Status AddFiles(const Uuid& layer, const std::vector<Uuid>& files);
  absl::Status RequireOneRow(Statement statement, const std::string& what);
};

}  // namespace cowl
