// open.cc: opening a store, what a crash left in it, and closing it.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "store/disk.h"
#include "store/owner.h"
#include "store/store_impl.h"

namespace cowl {
namespace {

namespace fs = std::filesystem;

constexpr int kThreadsMax = 8;
constexpr std::chrono::seconds kReapPatience{2};

absl::StatusOr<StorePaths> FindStore(const std::string& directory) {
  std::error_code error;
  const fs::path absolute = fs::absolute(directory, error);
  if (error || directory.empty()) return InvalidArgument("the store's directory must have a name");
  fs::path path = absolute.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  const StorePaths paths{path.string()};
  if (!PathExists(paths.root)) {
    return NotFound(
        absl::StrCat("store ", paths.root, ": no such directory; `cowl init` makes a store there"));
  }
  if (!fs::is_directory(paths.root, error)) {
    return FailedPrecondition(absl::StrCat(
        "store ", paths.root, ": is no directory; name the directory that `cowl init` made"));
  }
  if (::access(paths.root.c_str(), R_OK | X_OK) != 0)
    return ErrnoStatus(errno, "open store", paths.root);
  if (!PathExists(paths.Of(kCatalogFile))) {
    return FailedPrecondition(
        absl::StrCat("store ", paths.root, ": is no store (", kCatalogFile,
                     " is missing); name another directory, or make a store with `cowl init`"));
  }
  return paths;
}

// Empty folders, which tools that copy may leave behind.
absl::Status MakeMissingFolders(const StorePaths& paths) {
  bool is_any_new = false;
  for (const char* const folder : kFolders) {
    COWL_ASSIGN_OR_RETURN(const bool is_new, MakeDirectory(paths.Of(folder)));
    is_any_new |= is_new;
  }
  return is_any_new ? SyncPath(paths.root) : absl::OkStatus();
}

absl::StatusOr<IoBackend> BackendOf(const std::string& io) {
  if (io == "uring") return IoBackend::kUring;
  if (io == "sync") return IoBackend::kSync;
  return InvalidArgument(absl::StrCat("--io \"", io, "\" is neither uring nor sync"));
}

absl::StatusOr<int> ThreadsOf(int threads) {
  if (threads < 0 || threads > 1024)
    return InvalidArgument(absl::StrCat("--threads ", threads, " is not between 1 and 1024"));
  if (threads > 0) return threads;
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kThreadsMax);
}

}  // namespace

void Warn(const std::string& doing, const absl::Status& status) {
  Log().warn("{}: {}", doing, Message(status));
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& directory,
                                                   const StoreOptions& options) {
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<StoreImpl> store, StoreImpl::Open(directory, options));
  return std::unique_ptr<Store>(std::move(store));
}

absl::StatusOr<std::unique_ptr<StoreImpl>> StoreImpl::Open(const std::string& directory,
                                                           const StoreOptions& options) {
  COWL_ASSIGN_OR_RETURN(StorePaths paths, FindStore(directory));
  COWL_ASSIGN_OR_RETURN(const IoBackend backend, BackendOf(options.io));
  COWL_ASSIGN_OR_RETURN(const int threads, ThreadsOf(options.threads));
  const auto lock_kind = options.read_only ? StoreLock::Kind::kShared : StoreLock::Kind::kExclusive;
  COWL_ASSIGN_OR_RETURN(StoreLock lock,
                        StoreLock::Take(paths.Of(kLockFile), lock_kind, options.lock_wait_ms));
  if (!options.read_only) COWL_RETURN_IF_ERROR(MakeMissingFolders(paths));
  const CatalogMode mode = options.read_only ? CatalogMode::kReadNothing : CatalogMode::kReadWrite;
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<Catalog> catalog,
                        Catalog::Open(paths.Of(kCatalogFile), mode));
  std::unique_ptr<StoreImpl> store(new StoreImpl(std::move(paths), options, std::move(lock),
                                                 std::move(catalog), backend, threads));
  if (!options.read_only) COWL_RETURN_IF_ERROR(store->Recover());
  return store;
}

StoreImpl::StoreImpl(StorePaths paths, const StoreOptions& options, StoreLock lock,
                     std::unique_ptr<Catalog> catalog, IoBackend backend, int threads)
    : paths_(std::move(paths)),
      options_(options),
      lock_(std::move(lock)),
      reserve_(paths_.Of(kReserveFile)),
      catalog_(std::move(catalog)),
      loops_(paths_.root, backend, threads),
      reaper_(paths_, *catalog_, loops_, chains_, held_, files_mutex_),
      exports_(*this) {
  catalog_->SetMakeRoom([this] { return MakeRoom(); });
}

StoreImpl::~StoreImpl() {
  worker_.End();
  for (const std::string& name : devices_.Names()) {
    const std::shared_ptr<DeviceEntry> entry = devices_.Find(name);
    LockedDevice device{entry, std::unique_lock(entry->gate), {}};
    Settle(device);
  }
}

absl::Status StoreImpl::RequireWritable() const {
  if (!options_.read_only) return absl::OkStatus();
  return FailedPrecondition(absl::StrCat("store ", paths_.root, ": opened for reading only"));
}

// What cannot be mended here is told by the command that needs it; it does not keep the rest of the
// store shut.
absl::Status StoreImpl::Recover() {
  COWL_ASSIGN_OR_RETURN(const std::vector<DeviceRow> pending,
                        Read<std::vector<DeviceRow>>(
                            [](CatalogQueries& queries) { return queries.PendingDevices(); }));
  for (const DeviceRow& row : pending) {
    const absl::Status status = sealer_.RecoverPending(row);
    if (!status.ok()) Warn(absl::StrCat("recovering device ", row.name), status);
  }
  COWL_RETURN_IF_ERROR(ForgetDeadPins());
  const absl::StatusOr<uint64_t> unnamed_bytes = reaper_.RemoveUnnamedFiles();
  if (!unnamed_bytes.ok()) Warn("removing what a crash left", unnamed_bytes.status());
  const absl::StatusOr<uint64_t> reaped_bytes = reaper_.Run();
  if (!reaped_bytes.ok()) Warn("deleting layers that nobody names", reaped_bytes.status());
  recovered_bytes_ = unnamed_bytes.value_or(0) + reaped_bytes.value_or(0);
  reserve_.Refill();
  return absl::OkStatus();
}

// Readers that died without letting go of what they had frozen.
absl::Status StoreImpl::ForgetDeadPins() {
  COWL_ASSIGN_OR_RETURN(
      const std::vector<PinRow> pins,
      Read<std::vector<PinRow>>([](CatalogQueries& queries) { return queries.Pins(); }));
  std::vector<std::string> dead;
  for (const PinRow& pin : pins) {
    if (OwnerLives(pin.owner)) continue;
    dead.push_back(pin.token);
    hidden_.LostReader(pin.layer);
  }
  if (dead.empty()) return absl::OkStatus();
  return catalog_->Write([&](CatalogEdits& edits) -> absl::Status {
    for (const std::string& token : dead) COWL_RETURN_IF_ERROR(edits.RemovePin(token));
    return absl::OkStatus();
  });
}

bool StoreImpl::MakeRoom() {
  worker_.PostAfter(std::chrono::milliseconds(100), [this] { reserve_.Refill(); });
  return reserve_.Spend();
}

void StoreImpl::ReapSoon() {
  if (options_.read_only || reap_posted_.exchange(true)) return;
  worker_.Post([this] {
    reap_posted_ = false;
    absl::StatusOr<uint64_t> freed_bytes = reaper_.Run();
    if (absl::IsResourceExhausted(freed_bytes.status()) && MakeRoom()) freed_bytes = reaper_.Run();
    if (!freed_bytes.ok()) Warn("deleting layers that nobody names", freed_bytes.status());
    reserve_.Refill();
    // Whoever went may have been the last to read, beside a device, what that has written over.
    hidden_.CheckAllSoon();
    hidden_.SettleOnLostReaders();
    const std::vector<Uuid> deleted = reaper_.TakeDeleted();
    if (deleted.empty()) return;
    for (const std::string& name : devices_.Names()) {
      const absl::Status status = RefreshChain(name, deleted);
      if (!status.ok()) Warn(absl::StrCat("device ", name), status);
    }
  });
}

void StoreImpl::ReapAndWait() {
  ReapSoon();
  worker_.Wait(kReapPatience);
}

}  // namespace cowl
