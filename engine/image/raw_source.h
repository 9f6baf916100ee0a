// raw_source.h: a raw disk image in a regular file, or a block device, as a source. Holes are
// found, never read. Ownership: keeps its descriptor. Threads, errors: as BlockSource.
#pragma once

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "image/block_source.h"

namespace cowl {

class RawSource : public BlockSource {
 public:
  // Takes the size as it is now. Refuses what is neither a regular file nor a block device. `name`
  // is for messages.
  static absl::StatusOr<std::unique_ptr<RawSource>> Open(UniqueFd fd, const std::string& name);

  uint64_t size_bytes() const override { return size_bytes_; }
  absl::StatusOr<SourceRun> Next(uint64_t offset_bytes) override;
  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) override;
  absl::Status CheckUnchanged() override;

 private:
  RawSource(UniqueFd fd, const std::string& name, uint64_t size_bytes, bool has_holes)
      : fd_(std::move(fd)), name_(name), size_bytes_(size_bytes), has_holes_(has_holes) {}
  absl::Status Shorter(uint64_t now_bytes) const;
  void ReadAhead(uint64_t end_bytes);

  UniqueFd fd_;
  const std::string name_;
  const uint64_t size_bytes_;
  bool has_holes_;            // SEEK_DATA works; else all is data
  uint64_t ahead_bytes_ = 0;  // read-ahead was asked for up to here
};

}  // namespace cowl
