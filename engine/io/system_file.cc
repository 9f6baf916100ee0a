#include "io/system_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "absl/strings/str_cat.h"

namespace cowl {
namespace {

constexpr size_t kBuffersMax = 1024;  // IOV_MAX
constexpr uint64_t kFileBytesMax = std::numeric_limits<int64_t>::max();

// A write that held the loop this long was throttled or met a slow disk; for the time after it,
// writes go aside. A sync may run on the loop when the last one, wherever it ran, took less than
// kSlowSync.
constexpr std::chrono::milliseconds kSlowWrite(4);
constexpr std::chrono::milliseconds kSlowFor(250);
constexpr std::chrono::milliseconds kSlowSync(2);

constexpr long kXfs = 0x58465342;
constexpr long kCeph = 0x00c36400;

WriteRoute RouteOf(int fd) {
  struct statfs info;
  if (::fstatfs(fd, &info) != 0) return WriteRoute::kAside;
  switch (info.f_type) {
    case kXfs:
    case BTRFS_SUPER_MAGIC:  // taken by the ring without a worker
    case NFS_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case FUSE_SUPER_MAGIC:
    case V9FS_MAGIC:
    case kCeph:  // may wait for a network or a process
      return WriteRoute::kAside;
    default:
      return WriteRoute::kOnLoop;
  }
}

const char* NameOf(IoRequest::Op op) {
  switch (op) {
    case IoRequest::Op::kRead:
      return "read";
    case IoRequest::Op::kWrite:
      return "write";
    case IoRequest::Op::kSync:
      return "sync";
    case IoRequest::Op::kAllocate:
      return "allocate";
    case IoRequest::Op::kPunchHole:
      return "punch";
    case IoRequest::Op::kTruncate:
      return "truncate";
  }
  return "request";
}

uint64_t BytesOf(std::span<const iovec> buffers) {
  uint64_t total = 0;
  for (const iovec& buffer : buffers) total += buffer.iov_len;
  return total;
}

// Repeats `call` while a signal interrupts it; 0 or a positive errno.
template <typename Call>
int Retried(Call call) {
  int result;
  do {
    result = call();
  } while (result < 0 && errno == EINTR);
  return result < 0 ? errno : 0;
}

}  // namespace

IoCursor::IoCursor(std::span<const iovec> buffers)
    : buffers_(buffers), total_bytes_(BytesOf(buffers)) {
  Advance(0);
}

std::span<const iovec> IoCursor::Remaining() {
  const std::span<const iovec> rest =
      buffers_.subspan(index_, std::min(buffers_.size() - index_, kBuffersMax));
  if (within_bytes_ == 0) return rest;
  split_.assign(rest.begin(), rest.end());
  split_[0].iov_base = static_cast<std::byte*>(split_[0].iov_base) + within_bytes_;
  split_[0].iov_len -= within_bytes_;
  return split_;
}

void IoCursor::Advance(uint64_t bytes) {
  done_bytes_ += bytes;
  within_bytes_ += bytes;
  // Empty buffers are stepped over, so that a call never gets only those.
  while (index_ < buffers_.size() && within_bytes_ >= buffers_[index_].iov_len) {
    within_bytes_ -= buffers_[index_].iov_len;
    ++index_;
  }
}

SystemFile::SystemFile(std::string path, UniqueFd fd)
    : File(std::move(path)), fd_(std::move(fd)), write_route_(RouteOf(fd_.get())) {}

absl::StatusOr<uint64_t> SystemFile::SizeBytes() const {
  struct stat info;
  if (::fstat(fd(), &info) != 0) return ErrnoStatus(errno, "stat", path());
  return static_cast<uint64_t>(info.st_size);
}

absl::StatusOr<uint64_t> SystemFile::DiskBytes() const {
  struct stat info;
  if (::fstat(fd(), &info) != 0) return ErrnoStatus(errno, "stat", path());
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

absl::Status SystemFile::Failed(const IoRequest& request, int error_number) const {
  std::string where;
  switch (request.op) {
    case IoRequest::Op::kSync:
      where = path();
      break;
    case IoRequest::Op::kTruncate:
      where = absl::StrCat(path(), " to ", request.offset_bytes, " bytes");
      break;
    default:
      where =
          absl::StrCat(request.buffers.empty() ? request.length_bytes : BytesOf(request.buffers),
                       " bytes at ", request.offset_bytes, " of ", path());
  }
  return ErrnoStatus(error_number, NameOf(request.op), where);
}

bool SystemFile::Validate(IoRequest& request, const IoCursor& cursor) const {
  const uint64_t length = cursor.total_bytes() + request.length_bytes;
  if (request.offset_bytes <= kFileBytesMax && length <= kFileBytesMax - request.offset_bytes)
    return true;
  if (request.op == IoRequest::Op::kRead) {
    request.status =
        absl::OutOfRangeError(absl::StrCat("read ", length, " bytes at ", request.offset_bytes,
                                           " of ", path(), ": no file is that long"));
  } else {
    request.status = Failed(request, EFBIG);
  }
  return false;
}

SystemFile::Step SystemFile::Settle(IoRequest& request, IoCursor& cursor, int64_t result) const {
  if (result == -EINTR) return Step::kAgain;
  if (result == -EAGAIN) return Step::kWouldBlock;
  if (result < 0) {
    request.status = Failed(request, static_cast<int>(-result));
    return Step::kDone;
  }
  cursor.Advance(static_cast<uint64_t>(result));
  if (cursor.AtEnd()) {
    request.status = absl::OkStatus();
    return Step::kDone;
  }
  if (result > 0) return Step::kAgain;
  request.status =
      request.op == IoRequest::Op::kRead
          ? absl::OutOfRangeError(absl::StrCat(
                "read ", cursor.total_bytes(), " bytes at ", request.offset_bytes, " of ", path(),
                ": the file ends at ", request.offset_bytes + cursor.done_bytes()))
          : Failed(request, EIO);
  return Step::kDone;
}

bool SystemFile::IsExclusive(IoRequest::Op op) {
  return op == IoRequest::Op::kAllocate || op == IoRequest::Op::kPunchHole ||
         op == IoRequest::Op::kTruncate;
}

bool SystemFile::IsDoneOnLoop(IoRequest& request, IoCursor& cursor) {
  if (!Validate(request, cursor)) return true;
  switch (request.op) {
    case IoRequest::Op::kRead:
      return cursor.AtEnd() || ReadCached(request, cursor);
    case IoRequest::Op::kWrite:
      if (cursor.AtEnd()) return true;
      if (!MayWriteOnLoop()) return false;
      WriteOnLoop(request, cursor);
      return true;
    case IoRequest::Op::kAllocate:
    case IoRequest::Op::kPunchHole:
      return request.length_bytes == 0;
    case IoRequest::Op::kSync:
      if (!MaySyncOnLoop(request)) return false;
      SyncNow(request);
      return true;
    case IoRequest::Op::kTruncate:
      break;
  }
  return false;
}

bool SystemFile::ReadCached(IoRequest& request, IoCursor& cursor) {
  if (!has_nowait_) return false;
  const std::span<const iovec> into = cursor.Remaining();
  const ssize_t got = ::preadv2(fd(), into.data(), static_cast<int>(into.size()),
                                static_cast<off_t>(request.offset_bytes), RWF_NOWAIT);
  if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
    has_nowait_ = false;
    return false;
  }
  return Settle(request, cursor, got < 0 ? -errno : got) == Step::kDone;
}

bool SystemFile::MayWriteOnLoop() const {
  if (write_route_ != WriteRoute::kOnLoop || exclusive_count_.load(std::memory_order_relaxed) > 0)
    return false;
  return slow_until_ == Clock::time_point{} || Clock::now() >= slow_until_;
}

void SystemFile::WriteOnLoop(IoRequest& request, IoCursor& cursor) {
  const Clock::time_point began = Clock::now();
  TransferNow(request, cursor);
  const Clock::time_point ended = Clock::now();
  slow_until_ = ended - began > kSlowWrite ? ended + kSlowFor : Clock::time_point{};
}

bool SystemFile::MaySyncOnLoop(const IoRequest& request) const {
  return request.place == SyncPlace::kOnLoopWhereFast && write_route_ == WriteRoute::kOnLoop &&
         exclusive_count_.load(std::memory_order_relaxed) == 0 &&
         sync_is_fast_.load(std::memory_order_relaxed);
}

void SystemFile::NoteSync(Clock::duration took) {
  sync_is_fast_.store(took < kSlowSync, std::memory_order_relaxed);
}

void SystemFile::TransferNow(IoRequest& request, IoCursor& cursor) const {
  const bool is_read = request.op == IoRequest::Op::kRead;
  Step step;
  do {
    const std::span<const iovec> part = cursor.Remaining();
    const off_t offset = static_cast<off_t>(request.offset_bytes + cursor.done_bytes());
    const int count = static_cast<int>(part.size());
    const ssize_t moved = is_read ? ::preadv(fd(), part.data(), count, offset)
                                  : ::pwritev(fd(), part.data(), count, offset);
    step = Settle(request, cursor, moved < 0 ? -errno : moved);
  } while (step != Step::kDone);
}

void SystemFile::SyncNow(IoRequest& request) {
  const Clock::time_point began = Clock::now();
  const int error_number = Retried([&] { return ::fdatasync(fd()); });
  NoteSync(Clock::now() - began);
  request.status = error_number == 0 ? absl::OkStatus() : Failed(request, error_number);
}

void SystemFile::AllocateNow(IoRequest& request) const {
  const int error_number = Retried([&] {
    return ::fallocate(fd(), 0, static_cast<off_t>(request.offset_bytes),
                       static_cast<off_t>(request.length_bytes));
  });
  if (error_number == EOPNOTSUPP) return GrowNow(request);
  request.status = error_number == 0 ? absl::OkStatus() : Failed(request, error_number);
}

void SystemFile::PunchNow(IoRequest& request) const {
  const int error_number = Retried([&] {
    return ::fallocate(fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(request.offset_bytes),
                       static_cast<off_t>(request.length_bytes));
  });
  request.status = error_number == 0 || error_number == EOPNOTSUPP ? absl::OkStatus()
                                                                   : Failed(request, error_number);
}

void SystemFile::TruncateNow(IoRequest& request) const {
  const int error_number =
      Retried([&] { return ::ftruncate(fd(), static_cast<off_t>(request.offset_bytes)); });
  request.status = error_number == 0 ? absl::OkStatus() : Failed(request, error_number);
}

void SystemFile::GrowNow(IoRequest& request) const {
  const off_t end = static_cast<off_t>(request.offset_bytes + request.length_bytes);
  struct stat info;
  int error_number = ::fstat(fd(), &info) == 0 ? 0 : errno;
  if (error_number == 0 && info.st_size < end)
    error_number = Retried([&] { return ::ftruncate(fd(), end); });
  request.status = error_number == 0 ? absl::OkStatus() : Failed(request, error_number);
}

}  // namespace cowl
