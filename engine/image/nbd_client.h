// nbd_client.h: a disk that a child process serves over NBD, read and written by libnbd.
// Reads and writes are cut into pieces that are in flight together. A server that does not answer
// does not hang us: every half second `progress` is asked whether to go on. Threads: one. Errors:
// name the disk, the offset and what the server said; Cancelled.
#pragma once

#include <libnbd.h>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "cowl/store.h"
#include "image/block_source.h"

namespace cowl {

class LibnbdClient {
 public:
  // `socket` is connected to a server whose default export is the disk. `name` and `said` (what the
  // server printed) are for messages; `progress` may be empty.
  static absl::StatusOr<std::unique_ptr<LibnbdClient>> Connect(UniqueFd socket,
                                                               const std::string& name,
                                                               std::function<std::string()> said,
                                                               const Progress& progress);

  uint64_t size_bytes() const { return size_bytes_; }
  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into);
  absl::Status Write(uint64_t offset_bytes, std::span<const std::byte> from);
  absl::Status Flush();
  // The runs from `offset_bytes` on, at least one; all up to the end, or as far as one answer goes.
  absl::StatusOr<std::vector<SourceRun>> Runs(uint64_t offset_bytes);
  // Says good-bye, so that the server ends.
  void Disconnect();

 private:
  struct CloseHandle {
    void operator()(nbd_handle* handle) const { nbd_close(handle); }
  };

  LibnbdClient(const std::string& name, std::function<std::string()> said, const Progress& progress)
      : name_(name), said_(std::move(said)), progress_(progress) {}
  absl::Status Handshake(UniqueFd socket);
  // Handles what arrives, for half a second at most.
  absl::Status Turn();
  absl::Status Await(int64_t cookie, uint64_t offset_bytes);
  absl::Status AwaitAll(std::span<const int64_t> cookies, uint64_t offset_bytes);
  absl::Status Failed(const std::string& what) const;

  const std::string name_;
  const std::function<std::string()> said_;
  const Progress progress_;
  std::unique_ptr<nbd_handle, CloseHandle> handle_;
  uint64_t size_bytes_ = 0;
  uint64_t at_bytes_ = 0;  // what is waited for, as progress is told
  bool knows_holes_ = false;
};

}  // namespace cowl
