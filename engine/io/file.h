// file.h: the seam through which every byte to and from the store's disk passes.
// Units: bytes, any alignment. Ownership: the caller owns buffers and keeps them until the await
// returns; a File must outlive its requests. Threads: a File belongs to the loop it was opened on.
// Errors: absl::Status with operation, offset and path. Short I/O is resumed inside; a read that
// meets the end of the file is an error (OutOfRange), never fewer bytes. Durability: nothing is
// durable before Sync returns OK; after a Sync that failed, nothing it covered may be called
// durable.
#pragma once

#include <sys/uio.h>

#include <coroutine>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/task.h"

namespace cowl {

// Where a sync may run. A hand-over to another thread and back costs tens of microseconds, a good
// part of what a fast disk takes; but on the loop, all that the loop serves waits for the disk.
enum class SyncPlace : uint8_t { kAside, kOnLoopWhereFast };

// One operation on a file, living in the frame of the coroutine that awaits it.
// The completion contract: Start either completes the request at once (status set, returns true) or
// keeps the pointer, returns false, and later, on the loop's thread, sets status and resumes waiter
// exactly once. There is no cancellation; a loop that ends drains first.
struct IoRequest {
  enum class Op : uint8_t { kRead, kWrite, kSync, kAllocate, kPunchHole, kTruncate };

  Op op;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;            // kAllocate, kPunchHole
  std::span<const iovec> buffers = {};  // kRead, kWrite
  absl::Status status = {};
  std::coroutine_handle<> waiter = {};
  SyncPlace place = SyncPlace::kAside;  // kSync
};

class File {
 public:
  class [[nodiscard]] Awaiter {
   public:
    Awaiter(File& file, IoRequest::Op op, uint64_t offset_bytes, uint64_t length_bytes)
        : file_(file), request_{op, offset_bytes, length_bytes} {}
    Awaiter(File& file, IoRequest::Op op, uint64_t offset_bytes, void* data, size_t size)
        : file_(file), single_{data, size}, is_single_(true), request_{op, offset_bytes} {}
    Awaiter(File& file, IoRequest::Op op, uint64_t offset_bytes, std::span<const iovec> buffers)
        : file_(file), request_{op, offset_bytes, 0, buffers} {}
    Awaiter(File& file, SyncPlace place) : file_(file), request_{IoRequest::Op::kSync} {
      request_.place = place;
    }
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) {
      if (is_single_) request_.buffers = {&single_, 1};
      request_.waiter = waiter;
      return !file_.Start(request_);
    }
    absl::Status await_resume() { return std::move(request_.status); }

   private:
    File& file_;
    iovec single_{};
    bool is_single_ = false;
    IoRequest request_;
  };

  virtual ~File() = default;

  Awaiter Read(uint64_t offset_bytes, std::span<std::byte> into) {
    return {*this, IoRequest::Op::kRead, offset_bytes, into.data(), into.size()};
  }
  Awaiter Write(uint64_t offset_bytes, std::span<const std::byte> from) {
    return {*this, IoRequest::Op::kWrite, offset_bytes, const_cast<std::byte*>(from.data()),
            from.size()};
  }
  Awaiter WriteVector(uint64_t offset_bytes, std::span<const iovec> from) {
    return {*this, IoRequest::Op::kWrite, offset_bytes, from};
  }
  // Data and what is needed to read it (fdatasync).
  Awaiter Sync(SyncPlace place = SyncPlace::kAside) { return {*this, place}; }
  // Reserves disk space for a range and makes the file that long. ResourceExhausted when the disk
  // is full. A file system that cannot reserve just makes the file longer.
  Awaiter Allocate(uint64_t offset_bytes, uint64_t length_bytes) {
    return {*this, IoRequest::Op::kAllocate, offset_bytes, length_bytes};
  }
  // Gives the range's space back; it reads as zeros afterwards. A file system without holes: zeros
  // are NOT written, the call succeeds and frees nothing.
  Awaiter PunchHole(uint64_t offset_bytes, uint64_t length_bytes) {
    return {*this, IoRequest::Op::kPunchHole, offset_bytes, length_bytes};
  }
  Awaiter Truncate(uint64_t size_bytes) { return {*this, IoRequest::Op::kTruncate, size_bytes, 0}; }

  // A hint: what has been written starts on its way to the disk, so that a Sync soon after has less
  // to wait for. Nobody waits for it, and nothing is durable by it.
  virtual void StartWriteback() {}

  virtual absl::StatusOr<uint64_t> SizeBytes() const = 0;
  virtual absl::StatusOr<uint64_t> DiskBytes() const = 0;
  const std::string& path() const { return path_; }

  // Starts a request under the contract at IoRequest. For the awaiter and for decorators
  // (tests/support).
  virtual bool Start(IoRequest& request) = 0;

 protected:
  explicit File(std::string path) : path_(std::move(path)) {}

 private:
  std::string path_;
};

enum class OpenMode { kRead, kReadWrite, kCreate /* read-write; the name must be new */ };

// The directory a store lives in, as one loop sees it. Names are relative ("layers/x.cowl"). These
// calls block; they belong to control work, not to the I/O path. Remove and Create are durable once
// SyncDirectory of their folder has returned.
class Storage {
 public:
  virtual ~Storage() = default;
  virtual absl::StatusOr<std::unique_ptr<File>> Open(const std::string& name, OpenMode mode) = 0;
  virtual absl::Status Remove(const std::string& name) = 0;
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status SyncDirectory(const std::string& folder) = 0;
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) = 0;
};

}  // namespace cowl
