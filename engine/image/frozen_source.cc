#include "image/frozen_source.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "base/uuid.h"
#include "device/frozen_chain.h"
#include "image/device_source.h"
#include "image/raw_source.h"
#include "io/loop_thread.h"
#include "layer/layer.h"

namespace cowl {
namespace {

// The store's folder, from where one of its layers lies.
absl::StatusOr<std::string> StoreFolder(const LayerInfo& layer) {
  const auto id = Uuid::Parse(layer.id);
  const std::string name = id.has_value() ? "/" + DataFileName(*id) : "/";
  if (!id.has_value() || !layer.path.ends_with(name)) {
    return Internal(absl::StrCat("layer ", layer.id, " lies at ", layer.path,
                                 ", which is not where a store keeps it"));
  }
  return layer.path.substr(0, layer.path.size() - name.size());
}

class FrozenSource : public BlockSource {
 public:
  explicit FrozenSource(std::unique_ptr<LoopThread> thread) : thread_(std::move(thread)) {}

  absl::Status Open(const FrozenView& view) {
    COWL_ASSIGN_OR_RETURN(const std::string folder, StoreFolder(view.layers[0]));
    storage_ = thread_->loop().OpenStorage(folder);
    std::vector<std::string> names;
    for (const LayerInfo& layer : view.layers) {
      if (!layer.path.starts_with(folder + "/")) {
        return Internal(
            absl::StrCat("layer ", layer.id, " lies at ", layer.path, ", not in ", folder));
      }
      names.push_back(layer.path.substr(folder.size() + 1));
    }
    COWL_ASSIGN_OR_RETURN(
        std::unique_ptr<BlockDevice> chain,
        RunOn(thread_->loop(), OpenFrozenChain(*storage_, names, view.size_bytes)));
    source_ = std::make_unique<DeviceSource>(thread_->loop(), std::move(chain));
    return absl::OkStatus();
  }

  uint64_t size_bytes() const override { return source_->size_bytes(); }
  absl::StatusOr<SourceRun> Next(uint64_t offset_bytes) override {
    return source_->Next(offset_bytes);
  }
  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) override {
    return source_->Read(offset_bytes, into);
  }

 private:
  std::unique_ptr<LoopThread> thread_;  // first made, last gone
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<DeviceSource> source_;
};

class ZeroSource : public BlockSource {
 public:
  explicit ZeroSource(uint64_t size_bytes) : size_bytes_(size_bytes) {}
  uint64_t size_bytes() const override { return size_bytes_; }
  absl::StatusOr<SourceRun> Next(uint64_t offset_bytes) override {
    return SourceRun{size_bytes_ - offset_bytes, true};
  }
  absl::Status Read(uint64_t, std::span<std::byte> into) override {
    std::fill(into.begin(), into.end(), std::byte{0});
    return absl::OkStatus();
  }

 private:
  const uint64_t size_bytes_;
};

// A volume's file, held so that nobody opens the volume for writing meanwhile.
absl::StatusOr<std::unique_ptr<BlockSource>> OpenVolumeFile(const FrozenView& view) {
  UniqueFd fd(::open(view.volume_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, "open", view.volume_path);
  if (::flock(fd.get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "flock", view.volume_path);
    return FailedPrecondition(
        "the volume is in use, and a volume cannot be frozen: disconnect or detach it first");
  }
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<RawSource> source,
                        RawSource::Open(std::move(fd), view.volume_path));
  if (source->size_bytes() == view.size_bytes) return source;
  return DataLoss(absl::StrCat(view.volume_path, ": is ", source->size_bytes(),
                               " bytes long, and its volume ", view.size_bytes));
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlockSource>> OpenFrozenView(const FrozenView& view) {
  if (!view.volume_path.empty()) return OpenVolumeFile(view);
  if (view.layers.empty()) return std::make_unique<ZeroSource>(view.size_bytes);
  // Plain system calls: one request at a time gains nothing from a ring.
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<LoopThread> thread,
                        LoopThread::Start(IoBackend::kSync, "cowl-frozen"));
  auto source = std::make_unique<FrozenSource>(std::move(thread));
  COWL_RETURN_IF_ERROR(source->Open(view));
  return source;
}

std::string FolderOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string NameIn(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace cowl
