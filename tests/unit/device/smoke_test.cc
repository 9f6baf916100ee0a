// The shortest way through the whole core, on every storage: a layer, a chain, a device on it;
// written, read, discarded, flushed, closed, opened again, sealed into a layer and read through it.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "device/cow_device.h"
#include "layer/layer.h"
#include "layer/layer_writer.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

constexpr uint64_t kSizeBytes = 8 * kMiB + 512;  // the last block is not whole

std::vector<std::byte> Filled(size_t bytes, int value) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(value));
}

class SmokeTest : public IoRigTest {
 protected:
  std::vector<std::byte> Read(CowDevice& device, uint64_t offset, size_t length) {
    std::vector<std::byte> bytes(length);
    EXPECT_OK(Run(device.Read(offset, bytes)));
    return bytes;
  }
};

Task<absl::StatusOr<Uuid>> MakeBase(Storage* storage) {
  LayerWriterOptions options;
  options.size_bytes = kSizeBytes;
  options.created_by = "smoke";
  auto writer = LayerWriter::Create(*storage, "layers/base.tmp", options);
  if (!writer.ok()) co_return writer.status();
  const std::vector<std::byte> data = Filled(16 * kBlockBytes, 1);
  COWL_CO_RETURN_IF_ERROR(co_await (*writer)->Write(0, data));
  COWL_CO_RETURN_IF_ERROR(co_await (*writer)->Write(100, data));
  absl::StatusOr<LayerSummary> summary = co_await (*writer)->Finish();
  if (!summary.ok()) co_return summary.status();
  COWL_CO_RETURN_IF_ERROR(storage->Rename("layers/base.tmp", DataFileName(summary->id)));
  co_return summary->id;
}

Task<absl::Status> DestroyOnLoop(std::unique_ptr<CowDevice> device) {
  const absl::Status status = co_await device->Close();
  device.reset();
  co_return status;
}

TEST_P(SmokeTest, LayerOverlayDeviceAndBack) {
  Storage* const store = &storage();
  if (!rig().directory().empty()) std::filesystem::create_directory(rig().directory() + "/layers");
  const absl::StatusOr<Uuid> base = Run(MakeBase(store));
  ASSERT_OK(base);
  auto layer = Run(LoadLayerMap(*store, DataFileName(*base)));
  ASSERT_OK(layer);
  auto chain = MergeChain(std::vector{*layer});
  ASSERT_OK(chain);

  DataFileCache cache(*store);
  CowDeviceOptions options;
  options.name = "d";
  options.size_bytes = kSizeBytes;
  const Uuid id = Uuid::Random();
  auto overlay = Run(Overlay::Create(rig().loop(), *store, {id, *base, kSizeBytes}));
  ASSERT_OK(overlay);
  auto device = std::make_unique<CowDevice>(cache, *chain, *std::move(overlay), options);
  EXPECT_EQ(Read(*device, 0, 4096), Filled(4096, 1));

  EXPECT_OK(Run(device->Write(4096, Filled(4096, 2), {})));
  EXPECT_OK(Run(device->Write(8192 + 100, Filled(50, 3), {})));
  EXPECT_OK(Run(device->Write(kSizeBytes - 700, Filled(700, 4), {.fua = true})));
  EXPECT_OK(Run(device->Discard(0, 4096, {})));
  EXPECT_OK(Run(device->WriteZeroes(100 * 4096 + 10, 8192, {})));
  EXPECT_OK(Run(device->Flush()));
  const auto check = [&] {
    EXPECT_EQ(Read(*device, 0, 4096), Filled(4096, 0));
    EXPECT_EQ(Read(*device, 4096, 4096), Filled(4096, 2));
    EXPECT_EQ(Read(*device, 8192 + 99, 1), Filled(1, 1));
    EXPECT_EQ(Read(*device, 8192 + 100, 50), Filled(50, 3));
    EXPECT_EQ(Read(*device, 8192 + 150, 1), Filled(1, 1));
    EXPECT_EQ(Read(*device, 100 * 4096 + 9, 1), Filled(1, 1));
    EXPECT_EQ(Read(*device, 100 * 4096 + 10, 8192), Filled(8192, 0));
    EXPECT_EQ(Read(*device, 102 * 4096 + 10, 1), Filled(1, 1));
    EXPECT_EQ(Read(*device, kSizeBytes - 700, 700), Filled(700, 4));
    EXPECT_EQ(Read(*device, kSizeBytes - 701, 1), Filled(1, 0));
  };
  check();
  EXPECT_OK(Run(DestroyOnLoop(std::move(device))));

  auto again = Run(Overlay::Open(rig().loop(), *store, id, OpenMode::kReadWrite, false));
  ASSERT_OK(again);
  device = std::make_unique<CowDevice>(cache, *chain, *std::move(again), options);
  check();
  EXPECT_OK(Run(device->Write(5 * 4096, Filled(3 * kMiB, 5), {})));
  EXPECT_EQ(Read(*device, 5 * 4096 + 1000, 2 * kMiB), Filled(2 * kMiB, 5));

  // Snapshot, and everything again through the chain.
  const Uuid next = Uuid::Random();
  auto successor = Run(Overlay::Create(rig().loop(), *store, {next, id, kSizeBytes}));
  ASSERT_OK(successor);
  ASSERT_OK(Run(device->SwitchOverlay(*std::move(successor))));
  EXPECT_OK(Run(device->Write(4096, Filled(512, 6), {})));
  ASSERT_OK(Run(device->SealSwitched(*base, "smoke snapshot")));
  auto sealed = Run(LoadLayerMap(*store, DataFileName(id)));
  ASSERT_OK(sealed);
  auto longer = MergeChain(std::vector{*sealed, *layer});
  ASSERT_OK(longer);
  device->InstallChain(*longer);
  EXPECT_EQ(Read(*device, 4096, 512), Filled(512, 6));
  EXPECT_EQ(Read(*device, 4096 + 512, 100), Filled(100, 2));
  EXPECT_EQ(Read(*device, 5 * 4096 + 1000, 2 * kMiB), Filled(2 * kMiB, 5));
  EXPECT_EQ(Read(*device, kSizeBytes - 700, 700), Filled(700, 4));
  EXPECT_OK(Run(DestroyOnLoop(std::move(device))));
}

INSTANTIATE_TEST_SUITE_P(AllStorages, SmokeTest, testing::ValuesIn(AllRigs()), RigName);

}  // namespace
}  // namespace cowl
