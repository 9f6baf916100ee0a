#include "store/exports.h"

#include <functional>

#include "absl/strings/str_cat.h"
#include "base/size_text.h"
#include "base/status.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

// A client's hold on a disk.
class Hold : public OpenExport {
 public:
  // `released` is called after the disk was let go.
  Hold(std::shared_ptr<Disk> disk, UserList& users, std::string name, std::string description,
       std::string client, std::function<void(std::shared_ptr<Disk>)> released)
      : disk_(std::move(disk)),
        users_(users),
        user_(users.Add(std::move(client), &disk_->slot->loop())),
        name_(std::move(name)),
        description_(std::move(description)),
        released_(std::move(released)) {}
  ~Hold() override {
    users_.Remove(user_);
    released_(std::move(disk_));
  }

  BlockDevice& device() override { return *disk_->device; }
  IoLoop& loop() override { return disk_->slot->loop(); }
  const std::string& name() const override { return name_; }
  const std::string& description() const override { return description_; }
  void SetDisconnect(std::function<void()> disconnect) override {
    users_.SetDisconnect(user_, std::move(disconnect));
  }

 private:
  std::shared_ptr<Disk> disk_;
  UserList& users_;
  const UserList::Handle user_;
  const std::string name_;
  const std::string description_;
  const std::function<void(std::shared_ptr<Disk>)> released_;
};

// Descriptions end in an id that stays with the disk through resize, snapshot and rename, and is
// never another's: by it a client that comes back (engine/attach) knows whether the name still
// means the same disk.
std::string Describe(const DeviceRow& row) {
  const char* const kind = row.kind == DeviceRow::Kind::kVolume ? "volume" : "device";
  const std::string origin = row.image.empty() ? "" : absl::StrCat(" on ", row.image);
  return absl::StrCat(kind, origin, ", ", FormatBytes(row.size_bytes), ", id ", row.created_ns);
}

std::string Describe(const ImageRow& image, uint64_t size_bytes) {
  return absl::StrCat("image, read-only, ", FormatBytes(size_bytes), ", id ",
                      image.layer.ToString());
}

}  // namespace

void StoreExports::SetDefault(const std::string& name) {
  std::lock_guard lock(mutex_);
  default_name_ = name;
}

absl::StatusOr<std::vector<ExportTable::Entry>> StoreExports::List() {
  std::vector<Entry> entries;
  const absl::Status status = store_.catalog_->Read([&](CatalogQueries& queries) -> absl::Status {
    COWL_ASSIGN_OR_RETURN(const std::vector<ImageRow> images, queries.Images());
    for (const ImageRow& image : images) {
      COWL_ASSIGN_OR_RETURN(const LayerRow layer, queries.FindLayer(image.layer));
      entries.push_back({image.ToString(), Describe(image, layer.size_bytes)});
    }
    COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> devices, queries.Devices());
    for (const DeviceRow& device : devices) entries.push_back({device.name, Describe(device)});
    return absl::OkStatus();
  });
  COWL_RETURN_IF_ERROR(status);
  return entries;
}

absl::StatusOr<std::shared_ptr<OpenExport>> StoreExports::Open(std::string_view name,
                                                               std::string_view client) {
  if (store_.loops_.OnALoop())
    return Internal("an export was opened on a loop of the store, where nothing may block");
  std::string wanted(name);
  if (wanted.empty()) {
    std::lock_guard lock(mutex_);
    if (default_name_.empty())
      return NotFound("no export name was given, and this server has no default export");
    wanted = default_name_;
  }
  COWL_ASSIGN_OR_RETURN(const StoreImpl::Named named, store_.Resolve(wanted));
  if (named.device) return OpenDeviceExport(named.device->name, std::string(client));
  return OpenImageExport(named.image->ToString(), std::string(client));
}

absl::StatusOr<std::shared_ptr<OpenExport>> StoreExports::OpenDeviceExport(
    const std::string& name, const std::string& client) {
  COWL_RETURN_IF_ERROR(store_.RequireWritable());
  COWL_ASSIGN_OR_RETURN(LockedDevice device, store_.LockDevice(name));
  COWL_RETURN_IF_ERROR(store_.EnsureOpen(device));
  // The entry keeps the list of users for as long as this hold is on it, whatever becomes of the
  // device's name.
  const std::shared_ptr<DeviceEntry> entry = device.entry;
  return std::make_shared<Hold>(entry->disk, entry->users, name, Describe(device.row), client,
                                [store = &store_, entry](std::shared_ptr<Disk> disk) {
                                  disk.reset();
                                  store->CloseSoon(entry);
                                });
}

absl::StatusOr<std::shared_ptr<OpenExport>> StoreExports::OpenImageExport(
    const std::string& name, const std::string& client) {
  COWL_ASSIGN_OR_RETURN(const ImageRow image, store_.FindImage(name));
  COWL_ASSIGN_OR_RETURN(std::shared_ptr<Disk> disk, store_.OpenImage(image));
  const std::string description = Describe(image, disk->device->size_bytes());
  return std::make_shared<Hold>(
      std::move(disk), store_.ImageUsers(image.ToString()), image.ToString(), description, client,
      [store = &store_](std::shared_ptr<Disk> disk) { store->DestroySoon(std::move(disk)); });
}

}  // namespace cowl
