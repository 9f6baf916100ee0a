// disks.cc: opening a device when somebody needs its content, and closing it when nobody does any
// more.
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <shared_mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "device/cow_device.h"
#include "device/raw_device.h"
#include "overlay/overlay.h"
#include "store/disk.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

constexpr std::chrono::seconds kDisconnectPatience{10};

using OverlayOr = absl::StatusOr<std::unique_ptr<Overlay>>;

// What a device needs to make its overlay at the first write.
struct OverlayMaker {
  LoopSlot* slot;
  Catalog* catalog;
  std::string layers_path;
  Overlay::NewOptions options;
};

Task<void> RunAside(Loop& loop, std::function<void()> work) { co_await Offload(loop, work); }

// The file is durable before the row says that it exists.
Task<OverlayOr> MakeOverlay(const OverlayMaker& maker) {
  const std::string name = DataFileName(maker.options.id);
  // One from an attempt that failed half-way: no row says that it holds anything.
  maker.slot->storage->Remove(name).IgnoreError();
  OverlayOr overlay =
      co_await Overlay::Create(maker.slot->loop(), *maker.slot->storage, maker.options);
  if (!overlay.ok()) co_return overlay.status();
  absl::Status status;
  const std::function<void()> record = [&maker, &status] {
    status = SyncPath(maker.layers_path);
    if (!status.ok()) return;
    status = maker.catalog->Write(
        [&](CatalogEdits& edits) { return edits.MarkOverlayWritten(maker.options.id); });
  };
  co_await Offload(maker.slot->loop(), record);
  if (status.ok()) co_return overlay;
  // Nothing was appended to it: it goes as it came.
  const absl::Status closed = co_await (*overlay)->Close();
  static_cast<void>(closed);
  overlay->reset();
  maker.slot->storage->Remove(name).IgnoreError();
  co_return status;
}

Task<absl::Status> OpenCow(LoopSlot& slot, const DeviceRow& row,
                           std::shared_ptr<const ChainMap> chain, CowDeviceOptions options,
                           Disk& disk) {
  std::unique_ptr<Overlay> overlay;
  if (row.overlay_written) {
    OverlayOr opened = co_await Overlay::Open(slot.loop(), *slot.storage, row.overlay,
                                              OpenMode::kReadWrite, false);
    if (!opened.ok()) co_return opened.status();
    overlay = *std::move(opened);
  }
  auto device = std::make_unique<CowDevice>(*slot.files, std::move(chain), std::move(overlay),
                                            std::move(options));
  disk.cow = device.get();
  disk.device = std::move(device);
  co_return absl::OkStatus();
}

// Held as long as the volume is open for writing; see FrozenView.
absl::StatusOr<UniqueFd> LockVolume(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "open", path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "flock", path);
  return FailedPrecondition("the volume is being exported: try again when that is done");
}

Task<absl::Status> OpenVolume(LoopSlot& slot, const DeviceRow& row, Disk& disk) {
  const std::string name = absl::StrCat(kVolumesFolder, "/", row.volume_file);
  absl::StatusOr<std::unique_ptr<File>> file = slot.storage->Open(name, OpenMode::kReadWrite);
  if (!file.ok()) co_return file.status();
  const absl::StatusOr<uint64_t> file_bytes = (*file)->SizeBytes();
  if (!file_bytes.ok()) co_return file_bytes.status();
  if (*file_bytes < row.size_bytes) {
    co_return DataLoss(absl::StrCat((*file)->path(), ": is ", *file_bytes,
                                    " bytes long, and its volume ", row.size_bytes,
                                    ": it was truncated"));
  }
  absl::StatusOr<UniqueFd> lock = LockVolume((*file)->path());
  if (!lock.ok()) co_return lock.status();
  disk.volume_lock = *std::move(lock);
  auto device = std::make_unique<RawDevice>(*std::move(file), row.size_bytes, /*read_only=*/false);
  disk.raw = device.get();
  disk.device = std::move(device);
  co_return absl::OkStatus();
}

Task<absl::Status> CloseOnLoop(std::shared_ptr<Disk> disk) {
  absl::Status status;
  if (disk->cow != nullptr) {
    status = co_await disk->cow->Close();
  } else if (disk->device != nullptr && !disk->device->read_only()) {
    status = co_await disk->device->Flush();
  }
  disk->device.reset();
  disk->volume_lock.Reset();
  co_return status;
}

// Null while a snapshot is being finished, which installs a chain of its own.
Task<std::shared_ptr<const ChainMap>> SettledChainOf(CowDevice& device) {
  if (device.is_sealing()) co_return nullptr;
  co_return device.chain();
}

Task<absl::Status> ReplaceChainOf(CowDevice& device, std::shared_ptr<const ChainMap> chain,
                                  DeviceCap cap) {
  device.ReplaceChain(std::move(chain));
  device.SetCap(std::move(cap));
  co_return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LockedDevice> StoreImpl::LockDevice(const std::string& name) {
  LockedDevice device = devices_.Lock(name);
  const absl::Status status = catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(device.row, queries.FindDevice(name));
    return absl::OkStatus();
  });
  if (!status.ok()) {
    // Another error of the catalog must not make the table forget a disk that is open.
    if (absl::IsNotFound(status) && device.entry->disk == nullptr) devices_.Erase(name);
    return status;
  }
  return device;
}

absl::Status StoreImpl::EnsureOpen(LockedDevice& device) {
  if (device.entry->disk != nullptr) return absl::OkStatus();
  if (!device.row.pending_overlay.IsNil()) {
    COWL_RETURN_IF_ERROR(sealer_.RecoverPending(device.row));
    COWL_ASSIGN_OR_RETURN(device.row, Read<DeviceRow>([&](CatalogQueries& q) {
                            return q.FindDevice(device.row.name);
                          }));
  }
  COWL_ASSIGN_OR_RETURN(device.entry->disk, OpenDevice(device.row));
  hidden_.CheckSoon(device.entry);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const ChainMap>> StoreImpl::LoadChain(LoopSlot& slot,
                                                                     const Uuid& top) {
  COWL_ASSIGN_OR_RETURN(
      const std::vector<LayerRow> chain,
      Read<std::vector<LayerRow>>([&](CatalogQueries& queries) { return queries.Chain(top); }));
  return chains_.Load(slot, chain);
}

absl::StatusOr<CowDeviceOptions> StoreImpl::OptionsFor(const DeviceRow& row, LoopSlot& slot) {
  CowDeviceOptions options;
  options.name = absl::StrCat("device ", row.name);
  options.size_bytes = row.size_bytes;
  COWL_ASSIGN_OR_RETURN(options.cap, CapOf(row));
  const auto maker = std::make_shared<const OverlayMaker>(
      OverlayMaker{&slot,
                   catalog_.get(),
                   paths_.Of(kLayersFolder),
                   {row.overlay, row.base_layer, row.size_bytes}});
  options.make_overlay = [maker] { return MakeOverlay(*maker); };
  options.make_room = [this, &slot] { return RunAside(slot.loop(), [this] { MakeRoom(); }); };
  return options;
}

absl::StatusOr<std::shared_ptr<Disk>> StoreImpl::OpenDevice(const DeviceRow& row) {
  auto disk = std::make_shared<Disk>();
  COWL_ASSIGN_OR_RETURN(disk->slot, loops_.Enter());
  const absl::Status status = OpenDeviceOn(*disk->slot, row, *disk);
  if (status.ok()) return disk;
  loops_.Leave(disk->slot);
  return Annotate(status, absl::StrCat("device ", row.name));
}

absl::Status StoreImpl::OpenDeviceOn(LoopSlot& slot, const DeviceRow& row, Disk& disk) {
  if (row.kind == DeviceRow::Kind::kVolume) return RunOn(slot.loop(), OpenVolume(slot, row, disk));
  // Shared until the overlay is open, so that no layer of the chain is merged away meanwhile.
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(std::shared_ptr<const ChainMap> chain, LoadChain(slot, row.base_layer));
  COWL_ASSIGN_OR_RETURN(CowDeviceOptions options, OptionsFor(row, slot));
  return RunOn(slot.loop(), OpenCow(slot, row, std::move(chain), std::move(options), disk));
}

absl::StatusOr<std::shared_ptr<Disk>> StoreImpl::OpenImage(const ImageRow& image) {
  auto disk = std::make_shared<Disk>();
  std::shared_lock lock(files_mutex_);
  disk->hold = held_.Take(image.layer);
  COWL_ASSIGN_OR_RETURN(const LayerRow top, Read<LayerRow>([&](CatalogQueries& q) {
                          return q.FindLayer(image.layer);
                        }));
  COWL_ASSIGN_OR_RETURN(disk->slot, loops_.Enter());
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = LoadChain(*disk->slot, image.layer);
  if (!chain.ok()) {
    loops_.Leave(disk->slot);
    return Annotate(chain.status(), absl::StrCat("image ", image.ToString()));
  }
  CowDeviceOptions options;
  options.name = absl::StrCat("image ", image.ToString());
  options.size_bytes = top.size_bytes;
  options.read_only = true;
  auto device = std::make_unique<CowDevice>(*disk->slot->files, *std::move(chain), nullptr,
                                            std::move(options));
  disk->cow = device.get();
  disk->device = std::move(device);
  return disk;
}

absl::Status StoreImpl::DestroyDisk(std::shared_ptr<Disk> disk) {
  const absl::Status status = RunOn(disk->slot->loop(), CloseOnLoop(disk));
  loops_.Leave(disk->slot);
  return status;
}

// REQUIRES: the gate is held, nobody uses it.
absl::Status StoreImpl::CloseDisk(DeviceEntry& entry) {
  if (entry.disk == nullptr) return absl::OkStatus();
  entry.hidden = {};
  return DestroyDisk(std::exchange(entry.disk, nullptr));
}

// What its last user left is closed by the worker, soon: for who cannot wait for that.
absl::Status StoreImpl::CloseUnused(const std::string& name) {
  COWL_ASSIGN_OR_RETURN(LockedDevice device, LockDevice(name));
  return device.entry->users.empty() ? CloseDisk(*device.entry) : absl::OkStatus();
}

// As CloseDisk, when the device stays. REQUIRES: runs where the reaper does.
void StoreImpl::Settle(LockedDevice& device) {
  DeviceEntry& entry = *device.entry;
  if (entry.disk != nullptr && entry.disk->cow != nullptr && !options_.read_only) {
    const absl::Status status = hidden_.GiveBack(device);
    if (!status.ok()) Warn(absl::StrCat("device ", entry.name), status);
  }
  const absl::Status status = CloseDisk(entry);
  if (!status.ok()) Warn(absl::StrCat("closing device ", entry.name), status);
}

void StoreImpl::CloseSoon(std::shared_ptr<DeviceEntry> entry) {
  worker_.Post([this, entry = std::move(entry)] {
    LockedDevice device{entry, std::unique_lock(entry->gate), {}};
    if (entry->users.empty()) Settle(device);
  });
}

void StoreImpl::DestroySoon(std::shared_ptr<Disk> disk) {
  worker_.Post([this, disk = std::move(disk)]() mutable {
    DestroyDisk(disk).IgnoreError();  // an image: nothing that could be lost
    disk->hold = {};                  // the layer may go now
    ReapSoon();
  });
}

// A layer below an open device was merged away: what it reads stays the same, but from which layer
// it comes is told anew.
absl::Status StoreImpl::RefreshChain(const std::string& name, const std::vector<Uuid>& deleted) {
  absl::StatusOr<LockedDevice> device = LockDevice(name);
  if (absl::IsNotFound(device.status())) return absl::OkStatus();  // removed or renamed meanwhile
  COWL_RETURN_IF_ERROR(device.status());
  if (device->entry->disk == nullptr || device->entry->disk->cow == nullptr)
    return absl::OkStatus();
  Disk& disk = *device->entry->disk;
  const std::shared_ptr<const ChainMap> old = RunOn(disk.slot->loop(), SettledChainOf(*disk.cow));
  if (old == nullptr) return absl::OkStatus();
  const bool is_stale = std::any_of(deleted.begin(), deleted.end(), [&](const Uuid& id) {
    return std::find(old->layers.begin(), old->layers.end(), id) != old->layers.end();
  });
  if (!is_stale) return absl::OkStatus();
  std::shared_lock lock(files_mutex_);
  COWL_ASSIGN_OR_RETURN(std::shared_ptr<const ChainMap> chain,
                        LoadChain(*disk.slot, device->row.base_layer));
  COWL_ASSIGN_OR_RETURN(DeviceCap cap, CapOf(device->row));
  return RunOn(disk.slot->loop(), ReplaceChainOf(*disk.cow, std::move(chain), std::move(cap)));
}

absl::Status StoreImpl::RequireUnused(LockedDevice& device, bool force) {
  const std::vector<std::string> clients = device.entry->users.Clients();
  if (clients.empty()) return absl::OkStatus();
  const std::string what = absl::StrCat("device ", device.row.name);
  if (!force) return InUse(what, clients);
  return device.entry->users.DisconnectAll(what, kDisconnectPatience);
}

UserList& StoreImpl::ImageUsers(const std::string& image) {
  std::lock_guard lock(image_users_mutex_);
  std::unique_ptr<UserList>& users = image_users_[image];
  if (users == nullptr) users = std::make_unique<UserList>();
  return *users;
}

}  // namespace cowl
