#include "base/status.h"
#include "cowl/device.h"
#include "cowl/store.h"
#include "device/export_table.h"
#include "io/loop.h"

namespace cowl {
namespace {

// On the device's loop, where a resize changes it.
Task<uint64_t> SizeOf(BlockDevice& device) { co_return device.size_bytes(); }

class EmbeddedDevice : public Device {
 public:
  explicit EmbeddedDevice(std::shared_ptr<OpenExport> open) : open_(std::move(open)) {}

  uint64_t size_bytes() const override { return RunOn(open_->loop(), SizeOf(open_->device())); }
  bool read_only() const override { return open_->device().read_only(); }
  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) override {
    return RunOn(open_->loop(), open_->device().Read(offset_bytes, into));
  }
  absl::Status Write(uint64_t offset_bytes, std::span<const std::byte> from, bool fua) override {
    return RunOn(open_->loop(), open_->device().Write(offset_bytes, from, {.fua = fua}));
  }
  absl::Status Flush() override { return RunOn(open_->loop(), open_->device().Flush()); }
  absl::Status Discard(uint64_t offset_bytes, uint64_t length_bytes) override {
    return RunOn(open_->loop(), open_->device().Discard(offset_bytes, length_bytes, {}));
  }
  absl::Status WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes) override {
    return RunOn(open_->loop(), open_->device().WriteZeroes(offset_bytes, length_bytes, {}));
  }

 private:
  const std::shared_ptr<OpenExport> open_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> Device::Open(Store& store, const std::string& name) {
  absl::StatusOr<std::shared_ptr<OpenExport>> open =
      store.exports().Open(name, "an embedding program");
  if (!open.ok()) return open.status();
  return std::make_unique<EmbeddedDevice>(*std::move(open));
}

}  // namespace cowl
