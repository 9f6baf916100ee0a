// layer_index.h: all layers of a store, for walks along chains without a query a step. Threads:
// immutable once loaded.
#pragma once

#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "catalog/queries.h"

namespace cowl {

class LayerIndex {
 public:
  static absl::StatusOr<LayerIndex> Load(CatalogQueries& queries) {
    LayerIndex index;
    COWL_ASSIGN_OR_RETURN(std::vector<LayerRow> rows, queries.Layers());
    for (LayerRow& row : rows) {
      const Uuid id = row.id;
      index.rows_.emplace(id, std::move(row));
    }
    return index;
  }

  // Null for nil: the end of a chain. DataLoss for a layer that is missing.
  absl::StatusOr<const LayerRow*> Find(const Uuid& id) const {
    if (id.IsNil()) return nullptr;
    const auto found = rows_.find(id);
    if (found == rows_.end())
      return DataLoss(absl::StrCat("catalog: layer ", id.ToString(), " is missing"));
    return &found->second;
  }

  // Top first. DataLoss when it does not end.
  absl::StatusOr<std::vector<const LayerRow*>> Chain(const Uuid& top) const {
    std::vector<const LayerRow*> chain;
    COWL_ASSIGN_OR_RETURN(const LayerRow* layer, Find(top));
    while (layer != nullptr) {
      if (chain.size() == kChainLayersMax)
        return DataLoss(
            absl::StrCat("catalog: the chain of layer ", top.ToString(), " does not end"));
      chain.push_back(layer);
      COWL_ASSIGN_OR_RETURN(layer, Find(layer->parent));
    }
    return chain;
  }

  const std::unordered_map<Uuid, LayerRow>& rows() const { return rows_; }

 private:
  std::unordered_map<Uuid, LayerRow> rows_;
};

}  // namespace cowl
