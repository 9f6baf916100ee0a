// cowl/store.h: the public API: a store of images (immutable, layered) and devices (writable,
// copy-on-write). What the command line and the server are built on, and what a program that embeds
// the engine includes.
//
// Units: bytes; times are nanoseconds since 1970 UTC. Names: images are NAME or NAME:TAG (latest
// when no tag is given), devices NAME; the grammar stands in cowl/names.h. Threads: a Store may be
// called from any thread but those of its own loops; calls block until done. Ownership: a Store
// holds its directory's lock until it is destroyed; destroying it drains and closes every device.
// Errors: absl::Status whose message says what, where and what to do; a call that fails changed
// nothing. Durability: a call that returned OK survives a crash of the machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

class ExportTable;

struct StoreOptions {
  // Threads that serve devices. Default: one for each processor, at most 8. More costs about 1 MiB
  // each.
  int threads = 0;
  // "uring", or "sync" for hosts that forbid io_uring.
  std::string io = "uring";
  // Open for reading only: nothing in the directory is written, not even what a crash left.
  bool read_only = false;
  // How long to wait for another process to let go of the store.
  int lock_wait_ms = 1000;
};

struct ImageInfo {
  std::string name;
  std::string tag;
  std::string layer;  // id of the top layer
  int layer_count = 0;
  uint64_t size_bytes = 0;
  uint64_t stored_bytes = 0;  // of all layers of the chain
  int64_t created_ns = 0;
};

struct LayerInfo {
  std::string id;
  std::string path;  // absolute
  std::string created_by;
  uint64_t size_bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t hidden_bytes = 0;  // of those, what layers above hide (History only)
  int64_t created_ns = 0;
};

enum class DeviceKind { kOverlay, kVolume };

struct DeviceInfo {
  std::string name;
  std::string image;  // NAME:TAG it was made from; empty: from nothing, or the image is gone
  DeviceKind kind = DeviceKind::kOverlay;
  uint64_t size_bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t disk_bytes = 0;
  uint64_t cap_bytes = 0;          // 0: none
  std::vector<std::string> users;  // connected clients, as they named themselves
};

struct InspectInfo {
  enum class Kind { kImage, kOverlay, kVolume };
  Kind kind = Kind::kImage;
  std::string name;
  uint64_t size_bytes = 0;
  std::vector<LayerInfo> layers;  // top first
  std::string overlay_path;       // absolute; empty: none (an image, or never written)
  std::string image;              // of a device, as DeviceInfo
  uint64_t cap_bytes = 0;
};

// One run of a disk. `layer` is empty in the overlay and where nobody has it.
struct MapEntry {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool zero = false;
  uint32_t depth = 0;
  std::string layer;
};

struct DiffEntry {
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool zero = false;
};

struct SpaceInfo {
  std::string name;
  uint64_t logical_bytes = 0;
  uint64_t stored_bytes = 0;
  uint64_t disk_bytes = 0;
  uint64_t reclaimable_bytes = 0;
};

struct DiskUsage {
  SpaceInfo total;  // shared data counted once
  std::vector<SpaceInfo> images;
  std::vector<SpaceInfo> devices;
  uint64_t host_free_bytes = 0;
  uint64_t host_total_bytes = 0;
};

struct TreeNode {
  enum class Kind { kLayer, kImage, kDevice };
  std::string id;
  Kind kind = Kind::kLayer;
  std::string name;
  std::string parent;  // id of a node, or empty
};

struct Finding {
  std::string path;
  uint64_t offset_bytes = 0;
  std::string message;
};

struct CheckReport {
  std::vector<Finding> errors;
  std::vector<Finding> leaks;
  uint64_t checked_bytes = 0;
};

struct SealInfo {
  std::string image;  // NAME:TAG
  std::string layer;
  uint64_t pause_us = 0;  // Snapshot: how long requests were held
};

struct CreateOptions {
  uint64_t size_bytes = 0;  // 0: the image's
  uint64_t cap_bytes = 0;   // 0: none
};

// A layer file that was staged outside the store's lock (layer/layer_writer.h) and waits to be
// registered.
struct StagedLayer {
  std::string path;    // absolute, inside the store's staging folder
  std::string parent;  // layer id, or empty
  std::string created_by;
};

// The layers below a frozen state, top first: what export and import --parent read without holding
// the store. Of a volume the raw file: who reads it holds a shared flock on it, which is refused
// while the volume is open for writing, and refuses that.
struct FrozenView {
  std::string token;  // give it back with Release; empty: nothing to give back
  uint64_t size_bytes = 0;
  std::vector<LayerInfo> layers;
  std::string volume_path;  // absolute; empty: not a volume
  // The layer of `layers` where what Diff compares with by default begins: a device's image, an
  // image without its top layer. Empty: that is nothing.
  std::string origin_layer;
};

// Reports done and total (0: not known), in bytes; may be called from any thread; false asks the
// work to stop.
using Progress = std::function<bool(uint64_t done_bytes, uint64_t total_bytes)>;

class Store {
 public:
  // Makes an empty store. `directory` must not exist, or be empty.
  static absl::Status Init(const std::string& directory);
  // Opens it and repairs what a crash left. Unavailable: open elsewhere (the message names the
  // process).
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::string& directory,
                                                     const StoreOptions& options);

  virtual ~Store() = default;
  virtual const std::string& directory() const = 0;  // absolute

  // Lists, sorted by name.
  virtual absl::StatusOr<std::vector<ImageInfo>> Images() = 0;
  virtual absl::StatusOr<std::vector<DeviceInfo>> Devices() = 0;
  virtual absl::StatusOr<InspectInfo> Inspect(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<LayerInfo>> History(const std::string& image) = 0;
  virtual absl::StatusOr<std::vector<TreeNode>> Tree() = 0;
  virtual absl::StatusOr<DiskUsage> Usage() = 0;
  virtual absl::StatusOr<std::vector<MapEntry>> Map(const std::string& name) = 0;
  // `b` empty: a device's image, an image's chain without its top layer.
  virtual absl::StatusOr<std::vector<DiffEntry>> Diff(const std::string& a,
                                                      const std::string& b) = 0;

  // Devices. An empty `name` asks for one made from the image's.
  virtual absl::StatusOr<DeviceInfo> Create(const std::string& image, const std::string& name,
                                            const CreateOptions& options) = 0;
  virtual absl::StatusOr<DeviceInfo> CreateEmpty(const std::string& name,
                                                 const CreateOptions& options) = 0;
  virtual absl::StatusOr<DeviceInfo> CreateVolume(const std::string& name, uint64_t size_bytes) = 0;
  virtual absl::StatusOr<DeviceInfo> Clone(const std::string& device, const std::string& name) = 0;
  virtual absl::Status Reset(const std::string& device, bool force) = 0;
  virtual absl::Status Resize(const std::string& device, uint64_t size_bytes, bool force) = 0;
  virtual absl::Status RemoveDevice(const std::string& device, bool force) = 0;

  // Images. `force` moves a tag that is taken (Snapshot, Commit, Tag, Flatten, Register) or
  // disconnects users first.
  virtual absl::StatusOr<SealInfo> Snapshot(const std::string& device, const std::string& image,
                                            bool force) = 0;
  virtual absl::StatusOr<SealInfo> Commit(const std::string& device, const std::string& image,
                                          bool force) = 0;
  virtual absl::StatusOr<SealInfo> Flatten(const std::string& image, const std::string& new_image,
                                           bool force, const Progress& progress) = 0;
  virtual absl::Status Tag(const std::string& image, const std::string& new_image, bool force) = 0;
  virtual absl::Status RemoveImage(const std::string& image, bool force) = 0;
  virtual absl::Status Rename(const std::string& old_name, const std::string& new_name,
                              bool force) = 0;

  // Import: refuses a taken image before the work starts (CheckFree), then takes the staged file in
  // (Register).
  virtual absl::Status CheckFree(const std::string& image, bool force) = 0;
  virtual absl::StatusOr<ImageInfo> Register(const std::string& image, const StagedLayer& staged,
                                             bool force) = 0;
  // A state that stays as it is until Release: an image's chain, or a device's, frozen now.
  // `reader_pid`: the process that reads it, 0 for this one. The state outlives this Store as long
  // as that process lives.
  virtual absl::StatusOr<FrozenView> Freeze(const std::string& name, int reader_pid) = 0;
  virtual absl::Status Release(const std::string& token) = 0;

  virtual absl::StatusOr<uint64_t> CollectGarbage() = 0;  // bytes freed
  // `name` empty: everything. `data`: every block against its checksum. `repair`: frees leaks;
  // what is damaged keeps its name and its file.
  virtual absl::StatusOr<CheckReport> Check(const std::string& name, bool data, bool repair,
                                            const Progress& progress) = 0;

  // Every image and device, for the NBD server (nbd/server.h). `default_name`: what the empty
  // export name means, or empty.
  virtual ExportTable& exports() = 0;
  virtual void SetDefaultExport(const std::string& name) = 0;
};

}  // namespace cowl
