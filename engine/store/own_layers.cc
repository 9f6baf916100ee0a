// own_layers.cc: which layers below a device count as its own: those that clones and exports left
// there and that are nobody's image.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "store/store_impl.h"

namespace cowl {

// From a device's base down to what a reset goes back to, without what is somebody's image. None
// where a chain that had grown too long took that in (DescribeLayer): what is whose cannot be told
// there, and a cap too wide does less harm than one that refuses what nobody wrote.
absl::StatusOr<std::vector<LayerRow>> StoreImpl::OwnLayers(CatalogQueries& queries,
                                                           const DeviceRow& row) {
  std::vector<LayerRow> own;
  if (row.base_layer == row.image_layer) return own;
  COWL_ASSIGN_OR_RETURN(std::vector<LayerRow> chain, queries.Chain(row.base_layer));
  const bool reaches_image = std::any_of(chain.begin(), chain.end(), [&](const LayerRow& layer) {
    return layer.id == row.image_layer;
  });
  if (!row.image_layer.IsNil() && !reaches_image) return own;
  for (LayerRow& layer : chain) {
    if (layer.id == row.image_layer) break;
    COWL_ASSIGN_OR_RETURN(const LayerUse use, queries.UseOf(layer.id));
    if (use.image_count == 0) own.push_back(std::move(layer));
  }
  return own;
}

absl::StatusOr<StoreImpl::Below> StoreImpl::WhatIsBelow(CatalogQueries& queries,
                                                        const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> own, OwnLayers(queries, row));
  Below below;
  for (const LayerRow& layer : own) {
    below.stored_bytes += layer.stored_bytes;
    COWL_ASSIGN_OR_RETURN(const std::vector<Uuid> files, queries.FilesOf(layer.id));
    below.files.insert(files.begin(), files.end());
  }
  return below;
}

absl::StatusOr<DeviceCap> StoreImpl::CapOf(const DeviceRow& row) {
  COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> own,
                        Read<std::vector<LayerRow>>(
                            [&](CatalogQueries& queries) { return OwnLayers(queries, row); }));
  DeviceCap cap;
  cap.blocks_max = BlocksFloor(row.cap_bytes);
  for (const LayerRow& layer : own) cap.own_layers.push_back(layer.id);
  return cap;
}

}  // namespace cowl
