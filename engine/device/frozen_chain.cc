#include "device/frozen_chain.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "device/cow_device.h"
#include "device/data_file_cache.h"

namespace cowl {
namespace {

// The device with what it needs to live.
class FrozenChain : public BlockDevice {
 public:
  FrozenChain(Storage& storage, std::shared_ptr<const ChainMap> chain, CowDeviceOptions options)
      : files_(storage), device_(files_, std::move(chain), nullptr, std::move(options)) {}

  uint64_t size_bytes() const override { return device_.size_bytes(); }
  bool read_only() const override { return true; }
  Task<absl::Status> Read(uint64_t offset_bytes, std::span<std::byte> into) override {
    return device_.Read(offset_bytes, into);
  }
  Task<absl::Status> Write(uint64_t offset_bytes, std::span<const std::byte> from,
                           WriteOptions options) override {
    return device_.Write(offset_bytes, from, options);
  }
  Task<absl::Status> Flush() override { return device_.Flush(); }
  Task<absl::Status> Discard(uint64_t offset_bytes, uint64_t length_bytes,
                             WriteOptions options) override {
    return device_.Discard(offset_bytes, length_bytes, options);
  }
  Task<absl::Status> WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                 ZeroOptions options) override {
    return device_.WriteZeroes(offset_bytes, length_bytes, options);
  }
  Task<absl::Status> Prefetch(uint64_t offset_bytes, uint64_t length_bytes) override {
    return device_.Prefetch(offset_bytes, length_bytes);
  }
  absl::StatusOr<std::vector<MapExtent>> Map(uint64_t offset_bytes, uint64_t length_bytes,
                                             size_t extents_max) override {
    return device_.Map(offset_bytes, length_bytes, extents_max);
  }
  Task<absl::Status> OpenFiles() { return device_.OpenChainFiles(); }

 private:
  DataFileCache files_;
  CowDevice device_;
};

}  // namespace

Task<absl::StatusOr<std::unique_ptr<BlockDevice>>> OpenFrozenChain(
    Storage& storage, std::vector<std::string> layer_names, uint64_t size_bytes) {
  std::vector<std::shared_ptr<const LayerMap>> layers;
  for (const std::string& name : layer_names) {
    absl::StatusOr<std::shared_ptr<const LayerMap>> layer = co_await LoadLayerMap(storage, name);
    if (!layer.ok()) co_return layer.status();
    if (!layers.empty() && layers.back()->superblock.parent != (*layer)->superblock.id) {
      co_return DataLoss(absl::StrCat(name, ": is not the parent that the layer above it names"));
    }
    layers.push_back(*std::move(layer));
  }
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = MergeChain(layers);
  if (!chain.ok()) co_return chain.status();
  CowDeviceOptions options;
  options.name = layer_names.empty() ? "empty disk" : layer_names.front();
  options.size_bytes = size_bytes;
  options.read_only = true;
  auto frozen = std::make_unique<FrozenChain>(storage, *std::move(chain), std::move(options));
  COWL_CO_RETURN_IF_ERROR(co_await frozen->OpenFiles());
  co_return std::unique_ptr<BlockDevice>(std::move(frozen));
}

}  // namespace cowl
