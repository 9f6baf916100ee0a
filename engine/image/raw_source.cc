#include "image/raw_source.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "cowl/names.h"

namespace cowl {
namespace {

// Enough to keep a disk busy while a run is hashed and written.
constexpr uint64_t kReadAheadBytes = 8 * kMiB;

absl::StatusOr<uint64_t> SizeNow(int fd, const struct stat& st, const std::string& name) {
  if (S_ISREG(st.st_mode)) return static_cast<uint64_t>(st.st_size);
  uint64_t size_bytes = 0;
  if (ioctl(fd, BLKGETSIZE64, &size_bytes) != 0) return ErrnoStatus(errno, "ask the size of", name);
  return size_bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RawSource>> RawSource::Open(UniqueFd fd, const std::string& name) {
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, "stat", name);
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
    return InvalidArgument(absl::StrCat(
        name, " is neither a regular file nor a block device: only those can be read as a disk"));
  }
  COWL_ASSIGN_OR_RETURN(const uint64_t size_bytes, SizeNow(fd.get(), st, name));
  posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  return std::unique_ptr<RawSource>(
      new RawSource(std::move(fd), name, size_bytes, S_ISREG(st.st_mode)));
}

absl::StatusOr<SourceRun> RawSource::Next(uint64_t offset_bytes) {
  const uint64_t rest = size_bytes_ - offset_bytes;
  if (!has_holes_) return SourceRun{rest, false};
  const off_t data = lseek(fd_.get(), static_cast<off_t>(offset_bytes), SEEK_DATA);
  if (data < 0 && errno == ENXIO) {
    // A hole up to the end of the file, wherever that is by now.
    COWL_RETURN_IF_ERROR(CheckUnchanged());
    return SourceRun{rest, true};
  }
  if (data < 0) {
    has_holes_ = false;
    return SourceRun{rest, false};
  }
  if (static_cast<uint64_t>(data) > offset_bytes) {
    return SourceRun{std::min(rest, data - offset_bytes), true};
  }
  const off_t hole = lseek(fd_.get(), data, SEEK_HOLE);
  if (hole <= data) return SourceRun{rest, false};  // changed meanwhile: reading finds out
  return SourceRun{std::min(rest, hole - offset_bytes), false};
}

void RawSource::ReadAhead(uint64_t end_bytes) {
  if (end_bytes + kReadAheadBytes / 2 <= ahead_bytes_) return;
  ahead_bytes_ = end_bytes + kReadAheadBytes;
  posix_fadvise(fd_.get(), static_cast<off_t>(end_bytes), kReadAheadBytes, POSIX_FADV_WILLNEED);
}

absl::Status RawSource::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  ReadAhead(offset_bytes + into.size());
  while (!into.empty()) {
    const ssize_t got =
        pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset_bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return ErrnoStatus(errno, "read", absl::StrCat(name_, " at byte ", offset_bytes));
    }
    if (got == 0) return Shorter(offset_bytes);
    offset_bytes += static_cast<uint64_t>(got);
    into = into.subspan(static_cast<size_t>(got));
  }
  return absl::OkStatus();
}

absl::Status RawSource::CheckUnchanged() {
  struct stat st;
  if (fstat(fd_.get(), &st) != 0) return ErrnoStatus(errno, "stat", name_);
  COWL_ASSIGN_OR_RETURN(const uint64_t now_bytes, SizeNow(fd_.get(), st, name_));
  return now_bytes < size_bytes_ ? Shorter(now_bytes) : absl::OkStatus();
}

absl::Status RawSource::Shorter(uint64_t now_bytes) const {
  return DataLoss(absl::StrCat(name_, " is shorter than it said: ", size_bytes_,
                               " bytes at the start, ", now_bytes,
                               " now; import it again when nothing changes it"));
}

}  // namespace cowl
