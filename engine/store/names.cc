// names.cc: what the names of a store mean, and the verbs that only change names.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "store/disk.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

constexpr std::chrono::seconds kDisconnectPatience{10};

}  // namespace

// NAME:TAG is an image; a bare NAME is a device, or the image NAME:latest.
absl::StatusOr<StoreImpl::Named> StoreImpl::ResolveIn(CatalogQueries& queries,
                                                      const std::string& name) {
  Named named;
  const bool may_be_device = name.find(':') == std::string::npos;
  if (may_be_device) COWL_RETURN_IF_ERROR(ValidateDeviceName(name));
  COWL_ASSIGN_OR_RETURN(const ImageName image, ParseImageName(name));
  if (may_be_device) {
    absl::StatusOr<DeviceRow> device = queries.FindDevice(name);
    if (device.ok()) {
      named.device = *std::move(device);
      return named;
    }
    if (!absl::IsNotFound(device.status())) return device.status();
  }
  absl::StatusOr<ImageRow> row = queries.FindImage(image.name, image.tag);
  if (absl::IsNotFound(row.status()) && may_be_device) {
    return NotFound(absl::StrCat(
        Quoted(name),
        ": neither a device nor an image of this store; `cowl ls` and `cowl images` list "
        "those that are"));
  }
  if (!row.ok()) return row.status();
  named.image = *std::move(row);
  return named;
}

absl::StatusOr<StoreImpl::Named> StoreImpl::Resolve(const std::string& name) {
  return Read<Named>([&](CatalogQueries& queries) { return ResolveIn(queries, name); });
}

absl::StatusOr<ImageRow> StoreImpl::FindImage(const std::string& image) {
  COWL_ASSIGN_OR_RETURN(const ImageName name, ParseImageName(image));
  return Read<ImageRow>(
      [&](CatalogQueries& queries) { return queries.FindImage(name.name, name.tag); });
}

absl::Status StoreImpl::Tag(const std::string& image, const std::string& new_image, bool force) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_ASSIGN_OR_RETURN(const ImageName from, ParseImageName(image));
  COWL_ASSIGN_OR_RETURN(const ImageName to, ParseImageName(new_image));
  COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const ImageRow row, edits.FindImage(from.name, from.tag));
    return edits.PutImage({to.name, to.tag, row.layer, NowNs()}, force);
  }));
  ReapAndWait();
  return absl::OkStatus();
}

absl::Status StoreImpl::RemoveImage(const std::string& image, bool force) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_ASSIGN_OR_RETURN(const ImageRow row, FindImage(image));
  UserList& users = ImageUsers(row.ToString());
  if (const std::vector<std::string> clients = users.Clients(); !clients.empty()) {
    const std::string what = absl::StrCat("image ", row.ToString());
    if (!force) return InUse(what, clients);
    COWL_RETURN_IF_ERROR(users.DisconnectAll(what, kDisconnectPatience));
  }
  COWL_RETURN_IF_ERROR(
      catalog_->Write([&](CatalogEdits& edits) { return edits.RemoveImage(row.name, row.tag); }));
  hidden_.LostReader(row.layer);
  ReapAndWait();
  return absl::OkStatus();
}

absl::Status StoreImpl::Rename(const std::string& old_name, const std::string& new_name,
                               bool force) {
  COWL_RETURN_IF_ERROR(RequireWritable());
  COWL_ASSIGN_OR_RETURN(const Named named, Resolve(old_name));
  if (named.device) return RenameDevice(old_name, new_name, force);
  return RenameImage({named.image->name, named.image->tag}, new_name, force);
}

absl::Status StoreImpl::RenameImage(const ImageName& old_name, const std::string& new_name,
                                    bool force) {
  COWL_ASSIGN_OR_RETURN(const ImageName to, ParseImageName(new_name));
  if (to.ToString() == old_name.ToString()) return absl::OkStatus();
  COWL_RETURN_IF_ERROR(catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(ImageRow row, edits.FindImage(old_name.name, old_name.tag));
    COWL_RETURN_IF_ERROR(edits.RemoveImage(row.name, row.tag));
    row.name = to.name;
    row.tag = to.tag;
    COWL_RETURN_IF_ERROR(edits.PutImage(row, force));
    return edits.RenameOrigin(old_name.ToString(), to.ToString());
  }));
  ReapAndWait();  // a tag that was moved may leave a layer without a name
  return absl::OkStatus();
}

absl::Status StoreImpl::RenameDevice(const std::string& old_name, const std::string& new_name,
                                     bool force) {
  COWL_RETURN_IF_ERROR(ValidateDeviceName(new_name));
  if (old_name == new_name) return LockDevice(old_name).status();
  // Both gates, in the names' order, as every renaming: nobody opens it by its new name until the
  // table knows that it is the same device.
  LockedDevice target;
  if (new_name < old_name) target = devices_.Lock(new_name);
  COWL_ASSIGN_OR_RETURN(LockedDevice device, LockDevice(old_name));
  if (old_name < new_name) target = devices_.Lock(new_name);
  // Clients know it by its old name, and so does what attached it.
  COWL_RETURN_IF_ERROR(RequireUnused(device, force));
  COWL_RETURN_IF_ERROR(CloseDisk(*device.entry));
  COWL_RETURN_IF_ERROR(
      catalog_->Write([&](CatalogEdits& edits) { return edits.RenameDevice(old_name, new_name); }));
  devices_.Rename(old_name, new_name);
  return absl::OkStatus();
}

absl::Status StoreImpl::CheckFree(const std::string& image, bool force) {
  COWL_ASSIGN_OR_RETURN(const ImageName name, ParseImageName(image));
  return catalog_->Read(
      [&](CatalogQueries& queries) { return queries.CheckImageFree(name.name, name.tag, force); });
}

}  // namespace cowl
