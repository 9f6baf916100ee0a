// store_impl.h: Store, wired from its parts. One file for each group of verbs:
//
// - open.cc: opening, recovery, closing
// - names.cc: tags, renames, removing images
// - devices.cc: create, reset, resize, remove
// - snapshots.cc: snapshot, commit, clone, freeze; sealer.h: what those share
// - layers.cc: registering imports, flatten
// - disks.cc: opening and closing disks
// - own_layers.cc, hidden_space.h: space below devices
// - exports.cc: the export table
// - lists.cc, map_reports.cc, space.cc: reports
// - checker.h: check and repair
//
// Locks, in the order in which they are taken: a device's gate (device_table.h), files_mutex_, the
// catalog's own. files_mutex_ is held shared by whoever reads layer maps from files, or has made
// files that no row names yet; the reaper and the search for garbage take it exclusively. The
// worker thread closes disks that lost their last user and runs the reaper. Threads: as Store. What
// a loop releases is closed by the worker, never on the loop.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "catalog/catalog.h"
#include "cowl/names.h"
#include "cowl/store.h"
#include "device/cow_device.h"
#include "device/export_table.h"
#include "store/chain_cache.h"
#include "store/device_table.h"
#include "store/disk_map.h"
#include "store/exports.h"
#include "store/hidden_space.h"
#include "store/loop_pool.h"
#include "store/paths.h"
#include "store/reaper.h"
#include "store/reserve.h"
#include "store/sealer.h"
#include "store/store_lock.h"
#include "store/worker.h"

namespace cowl {

class SharedData;

// What the catalog alone says of a device.
DeviceInfo InfoOf(const DeviceRow& row);

// FailedPrecondition for a volume, with the reason: it cannot be VERB.
absl::Status RequireOverlay(const DeviceRow& row, std::string_view verb);

// Trouble that no caller is there to be told about.
void Warn(const std::string& doing, const absl::Status& status);

class StoreImpl : public Store {
 public:
  static absl::StatusOr<std::unique_ptr<StoreImpl>> Open(const std::string& directory,
                                                         const StoreOptions& options);
  ~StoreImpl() override;

  const std::string& directory() const override { return paths_.root; }

  absl::StatusOr<std::vector<ImageInfo>> Images() override;
  absl::StatusOr<std::vector<DeviceInfo>> Devices() override;
  absl::StatusOr<InspectInfo> Inspect(const std::string& name) override;
  absl::StatusOr<std::vector<LayerInfo>> History(const std::string& image) override;
  absl::StatusOr<std::vector<TreeNode>> Tree() override;
  absl::StatusOr<DiskUsage> Usage() override;
  absl::StatusOr<std::vector<MapEntry>> Map(const std::string& name) override;
  absl::StatusOr<std::vector<DiffEntry>> Diff(const std::string& a, const std::string& b) override;

  absl::StatusOr<DeviceInfo> Create(const std::string& image, const std::string& name,
                                    const CreateOptions& options) override;
  absl::StatusOr<DeviceInfo> CreateEmpty(const std::string& name,
                                         const CreateOptions& options) override;
  absl::StatusOr<DeviceInfo> CreateVolume(const std::string& name, uint64_t size_bytes) override;
  absl::StatusOr<DeviceInfo> Clone(const std::string& device, const std::string& name) override;
  absl::Status Reset(const std::string& device, bool force) override;
  absl::Status Resize(const std::string& device, uint64_t size_bytes, bool force) override;
  absl::Status RemoveDevice(const std::string& device, bool force) override;

  absl::StatusOr<SealInfo> Snapshot(const std::string& device, const std::string& image,
                                    bool force) override;
  absl::StatusOr<SealInfo> Commit(const std::string& device, const std::string& image,
                                  bool force) override;
  absl::StatusOr<SealInfo> Flatten(const std::string& image, const std::string& new_image,
                                   bool force, const Progress& progress) override;
  absl::Status Tag(const std::string& image, const std::string& new_image, bool force) override;
  absl::Status RemoveImage(const std::string& image, bool force) override;
  absl::Status Rename(const std::string& old_name, const std::string& new_name,
                      bool force) override;

  absl::Status CheckFree(const std::string& image, bool force) override;
  absl::StatusOr<ImageInfo> Register(const std::string& image, const StagedLayer& staged,
                                     bool force) override;
  absl::StatusOr<FrozenView> Freeze(const std::string& name, int reader_pid) override;
  absl::Status Release(const std::string& token) override;

  absl::StatusOr<uint64_t> CollectGarbage() override;
  absl::StatusOr<CheckReport> Check(const std::string& name, bool data, bool repair,
                                    const Progress& progress) override;

  ExportTable& exports() override { return exports_; }
  void SetDefaultExport(const std::string& name) override { exports_.SetDefault(name); }

 private:
  friend class Checker;
  friend class HiddenSpace;
  friend class Sealer;
  friend class StoreExports;

  // A name as the user gave it: a device, or an image and the layer it means now.
  struct Named {
    std::optional<DeviceRow> device;
    std::optional<ImageRow> image;
  };

  StoreImpl(StorePaths paths, const StoreOptions& options, StoreLock lock,
            std::unique_ptr<Catalog> catalog, IoBackend backend, int threads);

  // open.cc
  absl::Status Recover();
  absl::Status ForgetDeadPins();
  absl::Status RequireWritable() const;

  // Catalog::Read and Write for work that gives a value.
  template <typename T>
  absl::StatusOr<T> Read(const std::function<absl::StatusOr<T>(CatalogQueries&)>& work);
  template <typename T>
  absl::StatusOr<T> Write(const std::function<absl::StatusOr<T>(CatalogEdits&)>& work);

  // names.cc
  absl::StatusOr<Named> Resolve(const std::string& name);
  static absl::StatusOr<Named> ResolveIn(CatalogQueries& queries, const std::string& name);
  absl::StatusOr<ImageRow> FindImage(const std::string& image);
  absl::Status RenameImage(const ImageName& old_name, const std::string& new_name, bool force);
  absl::Status RenameDevice(const std::string& old_name, const std::string& new_name, bool force);

  // devices.cc
  absl::Status RequireFiles(CatalogQueries& queries, const ImageRow& image) const;
  absl::StatusOr<DeviceInfo> AddDevice(
      const std::string& name, const std::function<absl::StatusOr<DeviceRow>(CatalogEdits&)>& make);
  absl::StatusOr<std::string> NumberedName(CatalogQueries& queries, const std::string& stem);
  void RemoveDataFile(const Uuid& id);
  absl::Status ResizeVolume(LockedDevice& device, uint64_t size_bytes);
  absl::Status ZeroTail(LockedDevice& device, uint64_t size_bytes);

  // Changes the device's row as it is now: clients of an open device change it, too (its first
  // write).
  absl::Status EditDevice(const std::string& name, const std::function<void(DeviceRow&)>& edit);

  // snapshots.cc
  absl::StatusOr<FrozenView> ViewOf(const Uuid& top, uint64_t size_bytes, const std::string& token);
  absl::StatusOr<FrozenView> FreezeNamed(const std::string& name, const Named& named,
                                         int reader_pid);
  absl::StatusOr<FrozenView> ViewOfUnwritten(const DeviceRow& row);
  FrozenView ViewOfVolume(const DeviceRow& row) const;

  // layers.cc
  absl::Status AdoptLayer(LoopSlot& slot, const ImageName& image, const Uuid& id,
                          const Uuid& parent, const std::string& created_by, bool force);
  LayerInfo LayerInfoOf(const LayerRow& row) const;

  // A device's own layers: what they store, and their data files.
  struct Below {
    uint64_t stored_bytes = 0;
    std::set<Uuid> files;
  };

  // lists.cc
  absl::StatusOr<ImageInfo> FindImageInfo(const ImageName& name);
  DeviceInfo DescribeDevice(const DeviceRow& row, const Below& below);
  absl::StatusOr<uint64_t> OverlayBytes(const DeviceRow& row);

  // space.cc
  absl::StatusOr<uint64_t> StoredInAll(const std::vector<DeviceInfo>& devices,
                                       const SharedData& shared);
  absl::StatusOr<uint64_t> UnnamedBytes();
  absl::Status AddTotals(DiskUsage& usage, const std::vector<DeviceInfo>& devices,
                         const SharedData& shared);

  // map_reports.cc
  absl::StatusOr<DiskMap> MapOf(const std::string& name);
  absl::StatusOr<DiskMap> MapOfChainAt(LoopSlot& slot, const Uuid& top, uint64_t size_bytes,
                                       uint32_t top_depth);
  absl::StatusOr<DiskMap> MapOfDevice(const std::string& name);
  absl::StatusOr<DiskMap> MapOfOrigin(const std::string& name);

  // disks.cc
  absl::StatusOr<LockedDevice> LockDevice(const std::string& name);
  absl::Status EnsureOpen(LockedDevice& device);
  absl::Status CloseDisk(DeviceEntry& entry);
  absl::Status CloseUnused(const std::string& name);
  void Settle(LockedDevice& device);
  void CloseSoon(std::shared_ptr<DeviceEntry> entry);
  void DestroySoon(std::shared_ptr<Disk> disk);
  absl::Status RequireUnused(LockedDevice& device, bool force);
  absl::StatusOr<std::shared_ptr<Disk>> OpenDevice(const DeviceRow& row);
  absl::Status OpenDeviceOn(LoopSlot& slot, const DeviceRow& row, Disk& disk);
  absl::StatusOr<CowDeviceOptions> OptionsFor(const DeviceRow& row, LoopSlot& slot);
  absl::StatusOr<std::shared_ptr<Disk>> OpenImage(const ImageRow& row);
  absl::Status DestroyDisk(std::shared_ptr<Disk> disk);
  absl::StatusOr<std::shared_ptr<const ChainMap>> LoadChain(LoopSlot& slot, const Uuid& top);
  static absl::StatusOr<std::string> OriginOf(CatalogQueries& queries, const DeviceRow& row);
  UserList& ImageUsers(const std::string& image);

  absl::Status RefreshChain(const std::string& name, const std::vector<Uuid>& deleted);

  // own_layers.cc
  static absl::StatusOr<std::vector<LayerRow>> OwnLayers(CatalogQueries& queries,
                                                         const DeviceRow& row);
  static absl::StatusOr<Below> WhatIsBelow(CatalogQueries& queries, const DeviceRow& row);
  absl::StatusOr<DeviceCap> CapOf(const DeviceRow& row);

  // The reaper, run by the worker; waits for it for up to two seconds.
  void ReapSoon();
  // Gives the reserve away, and takes it back soon.
  bool MakeRoom();
  void ReapAndWait();

  const StorePaths paths_;
  const StoreOptions options_;
  const StoreLock lock_;
  Reserve reserve_;
  const std::unique_ptr<Catalog> catalog_;
  LoopPool loops_;
  ChainCache chains_;
  HeldLayers held_;
  std::shared_mutex files_mutex_;
  Reaper reaper_;
  Sealer sealer_{*this};
  HiddenSpace hidden_{*this};
  DeviceTable devices_;
  StoreExports exports_;

  std::mutex image_users_mutex_;
  std::unordered_map<std::string, std::unique_ptr<UserList>>
      image_users_;  // by NAME:TAG; guarded by image_users_mutex_
  std::mutex numbers_mutex_;
  std::unordered_map<std::string, uint64_t>
      next_number_;  // of NumberedName, by stem; guarded by numbers_mutex_
  std::atomic<bool> reap_posted_ = false;
  std::atomic<uint64_t> recovered_bytes_ = 0;  // freed by Recover, not yet told by gc
  Worker worker_;                              // last: ends before what it works on
};

template <typename T>
absl::StatusOr<T> StoreImpl::Read(const std::function<absl::StatusOr<T>(CatalogQueries&)>& work) {
  absl::StatusOr<T> result = absl::UnknownError("");
  const absl::Status status = catalog_->Read([&](CatalogQueries& queries) {
    result = work(queries);
    return result.status();
  });
  if (!status.ok()) return status;
  return result;
}

template <typename T>
absl::StatusOr<T> StoreImpl::Write(const std::function<absl::StatusOr<T>(CatalogEdits&)>& work) {
  absl::StatusOr<T> result = absl::UnknownError("");
  const absl::Status status = catalog_->Write([&](CatalogEdits& edits) {
    result = work(edits);
    return result.status();
  });
  if (!status.ok()) return status;
  return result;
}

}  // namespace cowl
