// system_file.h: what the files of both loops share: the descriptor, plain system calls, and when a
// call may run on the loop.
//
// Where an operation runs:
// - A read: preadv2(RWF_NOWAIT) first, which serves the page cache at once; a miss goes to the ring
//   or to a helper.
// - A write, buffered: xfs and btrfs take it in the ring without a worker thread. ext4 and the like
//   do not (measured: 9 times slower at depth 1 than a call on the loop), so there it is a plain
//   call on the loop. Not while an allocation, punch or truncation of the file is under way (they
//   hold the inode's lock), and not for a while after a call that took long (a writer whom the
//   kernel throttles): then, as on network file systems, it goes aside.
// - Syncs: on the loop where the asker says that nobody else waits (SyncPlace) and the last one was
//   fast. The rest: never on the loop.
// Threads: as File; the ...Now methods may run on a helper. Errors: operation, range and path; see
// file.h.
#pragma once

#include <sys/uio.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "io/file.h"

namespace cowl {

// Where a read or write stands in its buffers.
class IoCursor {
 public:
  IoCursor() = default;
  explicit IoCursor(std::span<const iovec> buffers);

  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t done_bytes() const { return done_bytes_; }
  bool AtEnd() const { return done_bytes_ == total_bytes_; }
  // What is left, or as much of it as one system call takes. Valid until the next call of the
  // cursor.
  std::span<const iovec> Remaining();
  void Advance(uint64_t bytes);

 private:
  std::span<const iovec> buffers_;
  uint64_t total_bytes_ = 0;
  uint64_t done_bytes_ = 0;
  size_t index_ = 0;          // the first buffer that is not done
  size_t within_bytes_ = 0;   // done of it
  std::vector<iovec> split_;  // used when a buffer is done in part
};

enum class WriteRoute { kOnLoop, kAside };

class SystemFile : public File {
 public:
  absl::StatusOr<uint64_t> SizeBytes() const override;
  absl::StatusOr<uint64_t> DiskBytes() const override;

 protected:
  enum class Step { kDone, kAgain, kWouldBlock };

  SystemFile(std::string path, UniqueFd fd);

  int fd() const { return fd_.get(); }
  // What a request begins with, on the loop: refuses what no file can have, and does what needs no
  // waiting. True: the request is complete; else the loop's own way takes it on from the cursor.
  bool IsDoneOnLoop(IoRequest& request, IoCursor& cursor);
  // Owns the inode's lock while it runs.
  static bool IsExclusive(IoRequest::Op op);
  // Digests the result of a read or write (a count or a negative errno); kDone: request.status is
  // set.
  Step Settle(IoRequest& request, IoCursor& cursor, int64_t result) const;
  absl::Status Failed(const IoRequest& request, int error_number) const;

  // Block; on a helper. They set request.status.
  void TransferNow(IoRequest& request, IoCursor& cursor) const;
  void SyncNow(IoRequest& request);
  void AllocateNow(IoRequest& request) const;
  void PunchNow(IoRequest& request) const;
  void TruncateNow(IoRequest& request) const;
  void GrowNow(IoRequest& request) const;  // Allocate where the file system cannot reserve

  // Of every sync; those of SyncNow are noted already. Any thread.
  using Clock = std::chrono::steady_clock;
  void NoteSync(Clock::duration took);

  // Around an exclusive operation. Begin on the loop, End anywhere.
  void BeginExclusive() { exclusive_count_.fetch_add(1, std::memory_order_relaxed); }
  void EndExclusive() { exclusive_count_.fetch_sub(1, std::memory_order_relaxed); }

 private:
  // False with request.status set.
  bool Validate(IoRequest& request, const IoCursor& cursor) const;
  // True: the request is complete.
  bool ReadCached(IoRequest& request, IoCursor& cursor);
  bool MayWriteOnLoop() const;
  void WriteOnLoop(IoRequest& request, IoCursor& cursor);
  bool MaySyncOnLoop(const IoRequest& request) const;

  const UniqueFd fd_;
  const WriteRoute write_route_;
  bool has_nowait_ = true;
  Clock::time_point slow_until_{};
  std::atomic<bool> sync_is_fast_{false};
  std::atomic<int> exclusive_count_{0};
};

}  // namespace cowl
