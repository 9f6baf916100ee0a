// fake_store.h: a Store that remembers what it was asked and answers from memory: what the command
// table is tested against.
#pragma once

#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "cowl/store.h"

namespace cowl {

class FakeStore : public Store {
 public:
  const std::string& directory() const override { return directory_; }

  absl::StatusOr<std::vector<ImageInfo>> Images() override { return images; }
  absl::StatusOr<std::vector<DeviceInfo>> Devices() override { return devices; }
  absl::StatusOr<InspectInfo> Inspect(const std::string& name) override {
    for (const DeviceInfo& device : devices) {
      if (device.name == name)
        return InspectInfo{InspectInfo::Kind::kOverlay, name, device.size_bytes, {}, "/s/o", "", 0};
    }
    return NotFound("there is no image or device \"" + name + "\"");
  }
  absl::StatusOr<std::vector<LayerInfo>> History(const std::string&) override { return layers; }
  absl::StatusOr<std::vector<TreeNode>> Tree() override {
    return std::vector<TreeNode>{{"l1", TreeNode::Kind::kLayer, "", ""},
                                 {"i1", TreeNode::Kind::kImage, "a:latest", "l1"}};
  }
  absl::StatusOr<DiskUsage> Usage() override { return usage; }
  absl::StatusOr<std::vector<MapEntry>> Map(const std::string&) override {
    return std::vector<MapEntry>{{0, 4096, false, 2, "l1"}, {4096, 512, true, 0, ""}};
  }
  absl::StatusOr<std::vector<DiffEntry>> Diff(const std::string&, const std::string&) override {
    return diff;
  }

  absl::StatusOr<DeviceInfo> Create(const std::string& image, const std::string& name,
                                    const CreateOptions& options) override {
    DeviceInfo device{name.empty() ? "made" : name,
                      image,
                      DeviceKind::kOverlay,
                      options.size_bytes,
                      0,
                      0,
                      options.cap_bytes,
                      {}};
    devices.push_back(device);
    return device;
  }
  absl::StatusOr<DeviceInfo> CreateEmpty(const std::string& name,
                                         const CreateOptions& options) override {
    return Create("", name, options);
  }
  absl::StatusOr<DeviceInfo> CreateVolume(const std::string& name, uint64_t size_bytes) override {
    return Create("", name, {size_bytes, 0});
  }
  absl::StatusOr<DeviceInfo> Clone(const std::string& device, const std::string& name) override {
    return Create(device, name, {});
  }
  absl::Status Reset(const std::string& device, bool force) override {
    return Note("reset", device, force);
  }
  absl::Status Resize(const std::string& device, uint64_t, bool force) override {
    return Note("resize", device, force);
  }
  absl::Status RemoveDevice(const std::string& device, bool force) override {
    return Note("rm", device, force);
  }

  absl::StatusOr<SealInfo> Snapshot(const std::string&, const std::string& image, bool) override {
    return SealInfo{image, "l2", 7};
  }
  absl::StatusOr<SealInfo> Commit(const std::string&, const std::string& image, bool) override {
    return SealInfo{image, "l2", 0};
  }
  // Works until it is told to stop.
  absl::StatusOr<SealInfo> Flatten(const std::string&, const std::string&, bool,
                                   const Progress& progress) override {
    uint64_t done = 0;
    while (progress(done, 1'000'000)) {
      if (flatten_steps > 0 && done >= flatten_steps) return SealInfo{"flat:latest", "l3", 0};
      ++done;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return absl::CancelledError("stopped");
  }
  absl::Status Tag(const std::string& image, const std::string&, bool force) override {
    return Note("tag", image, force);
  }
  absl::Status RemoveImage(const std::string& image, bool force) override {
    return Note("rmi", image, force);
  }
  absl::Status Rename(const std::string& old_name, const std::string&, bool force) override {
    return Note("rename", old_name, force);
  }

  absl::Status CheckFree(const std::string& image, bool force) override {
    return Note("check_free", image, force);
  }
  absl::StatusOr<ImageInfo> Register(const std::string& image, const StagedLayer& staged,
                                     bool) override {
    registered = staged;
    return ImageInfo{image, "latest", "l1", 1, 4096, 4096, 0};
  }
  absl::StatusOr<FrozenView> Freeze(const std::string& name, int) override {
    FrozenView view;
    view.token = "token-" + name;
    view.size_bytes = 8192;
    view.layers = {LayerInfo{"l1", "/s/l1", "", 8192, 4096, 0, 0}};
    return view;
  }
  absl::Status Release(const std::string& token) override { return Note("release", token, false); }
  absl::StatusOr<uint64_t> CollectGarbage() override { return 12; }
  absl::StatusOr<CheckReport> Check(const std::string&, bool, bool, const Progress&) override {
    return report;
  }

  ExportTable& exports() override { std::abort(); }
  void SetDefaultExport(const std::string&) override {}

  std::vector<std::string> Notes() {
    std::lock_guard lock(mutex_);
    return notes_;
  }

  std::vector<ImageInfo> images;
  std::vector<DeviceInfo> devices;
  std::vector<LayerInfo> layers;
  std::vector<DiffEntry> diff;
  DiskUsage usage;
  CheckReport report;
  StagedLayer registered;
  uint64_t flatten_steps = 0;  // 0: it never ends by itself

 private:
  absl::Status Note(const std::string& what, const std::string& name, bool force) {
    std::lock_guard lock(mutex_);
    notes_.push_back(what + " " + name + (force ? " force" : ""));
    return absl::OkStatus();
  }

  std::string directory_ = "/nowhere";
  std::mutex mutex_;
  std::vector<std::string> notes_;
};

}  // namespace cowl
