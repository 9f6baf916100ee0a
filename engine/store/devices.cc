// devices.cc: making, resetting, resizing and removing devices. All of it costs the same for every
// size, volumes apart.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/size_text.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "device/raw_device.h"
#include "store/disk.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

constexpr char kEmptyStem[] = "disk";
constexpr size_t kStemCharsMax = 100;

absl::Status CheckSize(uint64_t size_bytes) {
  if (size_bytes >= kDeviceBytesMin && size_bytes <= kDeviceBytesMax &&
      size_bytes % kSectorBytes == 0)
    return absl::OkStatus();
  return InvalidArgument(
      absl::StrCat("size of ", size_bytes, " bytes: it must be a multiple of 512 from 512 to 64T"));
}

absl::Status CheckCap(uint64_t cap_bytes) {
  if (cap_bytes == 0 || cap_bytes >= kBlockBytes) return absl::OkStatus();
  return InvalidArgument(
      absl::StrCat("cap of ", cap_bytes, " bytes: less than one block of ", kBlockBytes));
}

DeviceRow NewRow(uint64_t size_bytes, uint64_t cap_bytes) {
  DeviceRow row;
  row.overlay = Uuid::Random();
  row.size_bytes = size_bytes;
  row.cap_bytes = cap_bytes;
  row.created_ns = NowNs();
  return row;
}

absl::Status NoRoom(uint64_t size_bytes, const std::string& path, uint64_t free_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat("reserve ", FormatBytes(size_bytes), " for ",
                                                   path, ": only ", FormatBytes(free_bytes),
                                                   " are free"));
}

// Makes `path` as long as asked, with all its space, durably; a failure leaves it as long as it
// was. What does not fit is refused before anything is reserved: a file system would otherwise fill
// up first, and others with it.
absl::Status Preallocate(const std::string& path, int flags, uint64_t size_bytes) {
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | flags, 0600));
  if (!file.valid()) return ErrnoStatus(errno, "create", path);
  struct stat before = {};
  if (::fstat(file.get(), &before) != 0) return ErrnoStatus(errno, "look at", path);
  COWL_ASSIGN_OR_RETURN(const HostSpace space, SpaceOf(path));
  if (size_bytes > DiskBytesOf(path) + space.free_bytes)
    return NoRoom(size_bytes, path, space.free_bytes);
  int failed = ::fallocate(file.get(), 0, 0, static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  // A file system that cannot reserve: the volume is sparse there.
  if (failed == EOPNOTSUPP && ::ftruncate(file.get(), static_cast<off_t>(size_bytes)) == 0)
    failed = 0;
  if (failed == 0 && ::fsync(file.get()) != 0) failed = errno;
  if (failed == 0) return absl::OkStatus();
  // Gives the space back; when that fails too, the first failure is the one to tell.
  [[maybe_unused]] const int undone = ::ftruncate(file.get(), before.st_size);
  return ErrnoStatus(failed, absl::StrCat("reserve ", FormatBytes(size_bytes), " for"), path);
}

absl::Status NotForVolumes(const DeviceRow& row, std::string_view verb) {
  return FailedPrecondition(
      absl::StrCat("device ", row.name,
                   ": is a volume, which bypasses copy-on-write; it cannot be ", Absl(verb)));
}

}  // namespace

DeviceInfo InfoOf(const DeviceRow& row) {
  DeviceInfo info;
  info.name = row.name;
  info.image = row.image;
  info.kind = row.kind == DeviceRow::Kind::kVolume ? DeviceKind::kVolume : DeviceKind::kOverlay;
  info.size_bytes = row.size_bytes;
  info.cap_bytes = row.cap_bytes;
  return info;
}

absl::Status RequireOverlay(const DeviceRow& row, std::string_view verb) {
  return row.kind == DeviceRow::Kind::kVolume ? NotForVolumes(row, verb) : absl::OkStatus();
}

// The first free of STEM-1, STEM-2, ...
absl::StatusOr<std::string> StoreImpl::NumberedName(CatalogQueries& queries,
                                                    const std::string& stem) {
  const std::string prefix = stem.substr(0, kStemCharsMax);
  std::lock_guard lock(numbers_mutex_);
  uint64_t& number = next_number_[prefix];
  while (true) {
    const std::string name = absl::StrCat(prefix, "-", ++number);
    COWL_ASSIGN_OR_RETURN(const bool is_device, queries.HasDevice(name));
    COWL_ASSIGN_OR_RETURN(const bool is_image, queries.HasImageNamed(name));
    if (!is_device && !is_image) return name;
  }
}

// One transaction: the image is looked up where the device is added, so that neither can go in
// between.
absl::StatusOr<DeviceInfo> StoreImpl::AddDevice(
    const std::string& name, const std::function<absl::StatusOr<DeviceRow>(CatalogEdits&)>& make) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  if (!name.empty()) COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  DeviceInfo info;
  COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(DeviceRow row, make(edits));
    row.name = name;
    if (name.empty()) {
      const std::string stem =
          row.image.empty() ? kEmptyStem : row.image.substr(0, row.image.find(':'));
      COWL_ASSIGN_OR_RETURN(row.name, NumberedName(edits, stem));
    }
    info = InfoOf(row);
    return edits.AddDevice(row);
  }));
  return info;
}

// Whether a device on the image could be opened: its first client is the wrong one to be told.
absl::Status StoreImpl::RequireFiles(CatalogQueries& queries, const ImageRow& image) const {
  COWL_ASSIGN_OR_RETURN(const std::vector<LayerRow> chain, queries.Chain(image.layer));
  for (const LayerRow& layer : chain) {
    COWL_ASSIGN_OR_RETURN(std::vector<Uuid> files, queries.FilesOf(layer.id));
    files.push_back(layer.id);
    for (const Uuid& file : files) {
      if (PathExists(paths_.DataFile(file))) continue;
      return DataLoss(absl::StrCat("image ", image.ToString(), ": ", paths_.DataFile(file),
                                   " is missing; restore it from a backup"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<DeviceInfo> StoreImpl::Create(const std::string& image, const std::string& name,
                                             const CreateOptions& options) {
  COWL_ASSIGN_OR_RETURN(const ImageName from, ParseImageName(image));
  if (options.size_bytes != 0) COWL_RETURN_IF_ERROR(CheckSize(options.size_bytes));
  COWL_RETURN_IF_ERROR(CheckCap(options.cap_bytes));
  return AddDevice(name, [&](CatalogEdits& edits) -> absl::StatusOr<DeviceRow> {
    COWL_ASSIGN_OR_RETURN(const ImageRow found, edits.FindImage(from.name, from.tag));
    COWL_ASSIGN_OR_RETURN(const LayerRow layer, edits.FindLayer(found.layer));
    COWL_RETURN_IF_ERROR(RequireFiles(edits, found));
    if (options.size_bytes != 0 && options.size_bytes < layer.size_bytes) {
      return InvalidArgument(absl::StrCat("size of ", options.size_bytes, " bytes: image ",
                                          found.ToString(), " has ", layer.size_bytes,
                                          ", and a device cannot be smaller"));
    }
    DeviceRow row =
        NewRow(options.size_bytes != 0 ? options.size_bytes : layer.size_bytes, options.cap_bytes);
    row.image = found.ToString();
    row.image_layer = found.layer;
    row.base_layer = found.layer;
    return row;
  });
}

absl::StatusOr<DeviceInfo> StoreImpl::CreateEmpty(const std::string& name,
                                                  const CreateOptions& options) {
  COWL_RETURN_IF_ERROR(CheckSize(options.size_bytes));
  COWL_RETURN_IF_ERROR(CheckCap(options.cap_bytes));
  return AddDevice(name, [&](CatalogEdits&) -> absl::StatusOr<DeviceRow> {
    return NewRow(options.size_bytes, options.cap_bytes);
  });
}

absl::StatusOr<DeviceInfo> StoreImpl::CreateVolume(const std::string& name, uint64_t size_bytes) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_RETURN_IF_ERROR(CheckSize(size_bytes));
  DeviceRow row = NewRow(size_bytes, 0);
  row.kind = DeviceRow::Kind::kVolume;
  row.volume_file = absl::StrCat(name, "-", row.overlay.ToString(), kVolumeSuffix);
  const std::string folder = paths_.Of(kVolumesFolder);
  const std::string path = absl::StrCat(folder, "/", row.volume_file);
  // Before the work starts; the transaction asks again.
  COWL_RETURN_IF_ERROR(
      catalog_->Read([&](CatalogQueries& queries) { return queries.CheckDeviceFree(name); }));
  std::shared_lock lock(files_mutex_);  // no row names the file yet
  absl::Status status = Preallocate(path, O_CREAT | O_EXCL, size_bytes);
  if (status.ok()) status = SyncPath(folder);
  DeviceInfo info;
  if (status.ok()) {
    absl::StatusOr<DeviceInfo> added =
        AddDevice(name, [&](CatalogEdits&) -> absl::StatusOr<DeviceRow> { return row; });
    status = added.status();
    if (added.ok()) info = *std::move(added);
  }
  if (!status.ok()) {
    RemovePath(path).IgnoreError();
    return status;
  }
  return info;
}

absl::Status StoreImpl::EditDevice(const std::string& name,
                                   const std::function<void(DeviceRow&)>& edit) {
  return catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(DeviceRow row, edits.FindDevice(name));
    edit(row);
    return edits.UpdateDevice(row);
  });
}

// A file that no row names any more. What fails here is garbage for the next opening.
void StoreImpl::RemoveDataFile(const Uuid& id) {
  const absl::Status status = RemovePath(paths_.DataFile(id));
  if (!status.ok()) Warn("removing an overlay", status);
}

absl::Status StoreImpl::Reset(const std::string& name, bool force) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, LockDevice(name));
  COWL_RETURN_IF_ERROR(RequireOverlay(device.row, "reset"));
  COWL_RETURN_IF_ERROR(RequireUnused(device, force));
  CloseDisk(*device.entry).IgnoreError();  // what it could not write is thrown away anyway
  const DeviceRow old = device.row;
  // The overlay of a device that was shrunk hides what its image has beyond the end: without it the
  // device is as large as its image again, as every new one is at least.
  uint64_t size_bytes = old.size_bytes;
  if (!old.image_layer.IsNil()) {
    COWL_ASSIGN_OR_RETURN(const LayerRow image, Read<LayerRow>([&](CatalogQueries& queries) {
                            return queries.FindLayer(old.image_layer);
                          }));
    size_bytes = std::max(size_bytes, image.size_bytes);
  }
  COWL_RETURN_IF_ERROR(EditDevice(name, [&](DeviceRow& row) {
    row.size_bytes = size_bytes;
    row.base_layer = row.image_layer;
    row.overlay = Uuid::Random();
    row.overlay_written = false;
    row.pending_overlay = {};
    row.pending_written = false;
  }));
  RemoveDataFile(old.overlay);
  if (!old.pending_overlay.IsNil()) RemoveDataFile(old.pending_overlay);
  device.gate.unlock();
  hidden_.LostReader(old.base_layer);
  ReapAndWait();
  return absl::OkStatus();
}

absl::Status StoreImpl::RemoveDevice(const std::string& name, bool force) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, LockDevice(name));
  COWL_RETURN_IF_ERROR(RequireUnused(device, force));
  CloseDisk(*device.entry).IgnoreError();
  COWL_RETURN_IF_ERROR(
      catalog_->Write([&](CatalogEdits& edits) { return edits.RemoveDevice(name); }));
  devices_.Erase(name);
  if (device.row.kind == DeviceRow::Kind::kVolume) {
    const absl::Status status =
        RemovePath(absl::StrCat(paths_.Of(kVolumesFolder), "/", device.row.volume_file));
    if (!status.ok()) Warn("removing a volume", status);
    return absl::OkStatus();
  }
  RemoveDataFile(device.row.overlay);
  if (!device.row.pending_overlay.IsNil()) RemoveDataFile(device.row.pending_overlay);
  device.gate.unlock();
  hidden_.LostReader(device.row.base_layer);
  hidden_.LostReader(device.row.image_layer);
  ReapAndWait();
  return absl::OkStatus();
}

absl::Status StoreImpl::Resize(const std::string& name, uint64_t size_bytes, bool force) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_RETURN_IF_ERROR(CheckSize(size_bytes));
  COWL_ASSIGN_OR_RETURN(LockedDevice device, LockDevice(name));
  const uint64_t old_bytes = device.row.size_bytes;
  if (size_bytes == old_bytes) return absl::OkStatus();
  if (size_bytes < old_bytes) {
    if (!force) {
      return FailedPrecondition(absl::StrCat(
          "device ", name, ": has ", FormatBytes(old_bytes),
          ", and shrinking loses what lies beyond the new end; shrink what is on it first, "
          "then use --force"));
    }
    COWL_RETURN_IF_ERROR(RequireUnused(device, force));
    COWL_RETURN_IF_ERROR(ZeroTail(device, size_bytes));
  }
  if (device.row.kind == DeviceRow::Kind::kVolume) return ResizeVolume(device, size_bytes);
  COWL_RETURN_IF_ERROR(EditDevice(name, [&](DeviceRow& row) { row.size_bytes = size_bytes; }));
  const std::shared_ptr<Disk> disk = device.entry->disk;
  if (disk == nullptr) return absl::OkStatus();
  disk->slot->loop().Post([disk, size_bytes] { disk->cow->Resize(size_bytes); });
  if (device.entry->users.empty()) CloseSoon(device.entry);
  return absl::OkStatus();
}

namespace {

// What lies beyond the new end must be gone for good: growing again shows zeros. Of a device too:
// what lies below is hidden.
Task<absl::Status> ZeroAndFlush(BlockDevice& device, uint64_t from_bytes) {
  const ZeroOptions options;
  COWL_CO_RETURN_IF_ERROR(
      co_await device.WriteZeroes(from_bytes, device.size_bytes() - from_bytes, options));
  co_return co_await device.Flush();
}

}  // namespace

absl::Status StoreImpl::ZeroTail(LockedDevice& device, uint64_t size_bytes) {
  if (device.row.kind == DeviceRow::Kind::kVolume) return absl::OkStatus();  // truncating does it
  COWL_RETURN_IF_ERROR(EnsureOpen(device));
  const std::shared_ptr<Disk> disk = device.entry->disk;
  return RunOn(disk->slot->loop(), ZeroAndFlush(*disk->device, size_bytes));
}

absl::Status StoreImpl::ResizeVolume(LockedDevice& device, uint64_t size_bytes) {
  const std::string path = absl::StrCat(paths_.Of(kVolumesFolder), "/", device.row.volume_file);
  const bool grows = size_bytes > device.row.size_bytes;
  // The file is never shorter than the row says.
  if (grows) COWL_RETURN_IF_ERROR(Preallocate(path, 0, size_bytes));
  COWL_RETURN_IF_ERROR(
      EditDevice(device.row.name, [&](DeviceRow& row) { row.size_bytes = size_bytes; }));
  if (const std::shared_ptr<Disk> disk = device.entry->disk; disk != nullptr) {
    disk->slot->loop().Post([disk, size_bytes] { disk->raw->Resize(size_bytes); });
  }
  if (!grows && ::truncate(path.c_str(), static_cast<off_t>(size_bytes)) != 0)
    return ErrnoStatus(errno, "truncate", path);
  return absl::OkStatus();
}

}  // namespace cowl
