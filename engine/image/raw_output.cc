#include "image/raw_output.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "image/copy.h"

namespace cowl {
namespace {

absl::Status WriteAt(int fd, uint64_t offset_bytes, std::span<const std::byte> from,
                     const std::string& name) {
  while (!from.empty()) {
    const ssize_t put = pwrite(fd, from.data(), from.size(), static_cast<off_t>(offset_bytes));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoStatus(errno, "write", name);
    offset_bytes += static_cast<uint64_t>(put);
    from = from.subspan(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

absl::Status WriteOn(int fd, std::span<const std::byte> from, const std::string& name) {
  while (!from.empty()) {
    const ssize_t put = write(fd, from.data(), from.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return ErrnoStatus(errno, "write", name);
    from = from.subspan(static_cast<size_t>(put));
  }
  return absl::OkStatus();
}

// While it lives, a write to a pipe nobody reads gives EPIPE to this thread and no signal to the
// process.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    if (!sigismember(&before_, SIGPIPE)) {
      const timespec now{};
      while (sigtimedwait(&pipe_, nullptr, &now) == SIGPIPE) continue;
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t pipe_;
  sigset_t before_;
};

}  // namespace

absl::Status WriteRawFile(BlockSource& source, int fd, const std::string& name,
                          const Progress& progress) {
  const uint64_t size = source.size_bytes();
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) {
    return ErrnoStatus(errno, "make as long as the disk:", name);
  }
  std::vector<std::byte> buffer(kCopyRunBytes);
  for (uint64_t offset = 0; offset < size;) {
    COWL_RETURN_IF_ERROR(Report(progress, offset, size));
    COWL_ASSIGN_OR_RETURN(const SourceRun run, source.Next(offset));
    if (run.zero) {
      offset += run.length_bytes;
      continue;
    }
    const std::span<std::byte> part(buffer.data(), std::min(run.length_bytes, kCopyRunBytes));
    COWL_RETURN_IF_ERROR(source.Read(offset, part));
    COWL_RETURN_IF_ERROR(ForEachDataRun(part, [&](size_t at, std::span<const std::byte> data) {
      return WriteAt(fd, offset + at, data, name);
    }));
    offset += part.size();
  }
  return Report(progress, size, size);
}

absl::Status WriteRawStream(BlockSource& source, int fd, const std::string& name,
                            const Progress& progress) {
  const NoSigpipe no_sigpipe;
  const uint64_t size = source.size_bytes();
  std::vector<std::byte> buffer(kCopyRunBytes);
  const std::vector<std::byte> zeros(kCopyRunBytes);
  for (uint64_t offset = 0; offset < size;) {
    COWL_RETURN_IF_ERROR(Report(progress, offset, size));
    COWL_ASSIGN_OR_RETURN(const SourceRun run, source.Next(offset));
    const uint64_t length = std::min(run.length_bytes, kCopyRunBytes);
    const std::span<std::byte> part(buffer.data(), length);
    if (!run.zero) COWL_RETURN_IF_ERROR(source.Read(offset, part));
    COWL_RETURN_IF_ERROR(
        WriteOn(fd, std::span(run.zero ? zeros.data() : buffer.data(), length), name));
    offset += length;
  }
  return Report(progress, size, size);
}

}  // namespace cowl
