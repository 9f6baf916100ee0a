#include "image/importer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "image/copy.h"
#include "image/directory_importer.h"
#include "image/qcow2.h"
#include "image/raw_source.h"

namespace cowl {
namespace {

class CopyImporter : public Importer {
 public:
  CopyImporter(std::unique_ptr<BlockSource> source, uint64_t size_bytes)
      : source_(std::move(source)), size_bytes_(size_bytes) {}
  uint64_t size_bytes() const override { return size_bytes_; }
  absl::Status Pour(BlockSink& sink, const Progress& progress) override {
    return CopyBlocks(*source_, sink, progress);
  }

 private:
  std::unique_ptr<BlockSource> source_;
  const uint64_t size_bytes_;
};

struct Magic {
  size_t offset;
  std::string_view bytes;
  std::string_view kind;
};

constexpr std::array<Magic, 7> kArchives{{
    {257, "ustar", "a tar archive"},
    {0, "\x1f\x8b", "a gzip archive"},
    {0, "\x28\xb5\x2f\xfd", "a zstd archive"},
    {0,
     {"\xfd"
      "7zXZ",
      5},
     "an xz archive"},
    {0, "BZh", "a bzip2 archive"},
    {0, "PK\x03\x04", "a zip archive"},
    {0, "!<arch>\n", "an ar archive"},
}};

absl::Status RefuseArchive(int fd, const std::string& name) {
  char head[512] = {};
  const ssize_t got = pread(fd, head, sizeof(head), 0);
  if (got < 0) return ErrnoStatus(errno, "read", name);
  for (const Magic& magic : kArchives) {
    if (std::memcmp(head + magic.offset, magic.bytes.data(), magic.bytes.size()) != 0) continue;
    return Unimplemented(absl::StrCat(
        name, " is ", Absl(magic.kind),
        ", which cowl cannot import yet; unpack it into a directory and import that (or, if it "
        "really is a raw disk, say --format raw)"));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> OpenSource(const ImportSourceOptions& options) {
  if (options.fd >= 0) {
    UniqueFd own(fcntl(options.fd, F_DUPFD_CLOEXEC, 3));
    if (!own.valid()) return ErrnoStatus(errno, "use the open descriptor of", options.name);
    return own;
  }
  // Not blocking: opening a named pipe must not wait for a writer.
  UniqueFd fd(open(options.name.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return ErrnoStatus(errno, "open", options.name);
  return fd;
}

absl::StatusOr<std::unique_ptr<Importer>> MakeCopy(const ImportSourceOptions& options,
                                                   std::unique_ptr<BlockSource> source) {
  COWL_ASSIGN_OR_RETURN(const uint64_t size_bytes, DiskSize(options, source->size_bytes()));
  return std::make_unique<CopyImporter>(std::move(source), size_bytes);
}

}  // namespace

absl::StatusOr<uint64_t> DiskSize(const ImportSourceOptions& options, uint64_t source_bytes) {
  const std::string& name = options.name;
  if (source_bytes == 0)
    return InvalidArgument(absl::StrCat(name, " is empty: there is no disk in it"));
  const uint64_t size_bytes = options.size_bytes.value_or(source_bytes);
  if (size_bytes < source_bytes) {
    return InvalidArgument(absl::StrCat("--size ", size_bytes, " is less than the ", source_bytes,
                                        " bytes of ", name, "; give at least ",
                                        RoundUp(source_bytes, kSectorBytes)));
  }
  if (size_bytes % kSectorBytes != 0) {
    return InvalidArgument(absl::StrCat(
        name, " is ", source_bytes, " bytes long, which is no multiple of 512; give --size ",
        RoundUp(source_bytes, kSectorBytes), " to fill it up with zeros"));
  }
  if (size_bytes > kDeviceBytesMax) {
    return InvalidArgument(
        absl::StrCat(name, " is ", size_bytes, " bytes long; a disk has at most 64 TiB"));
  }
  if (size_bytes < options.size_bytes_min) {
    return InvalidArgument(absl::StrCat(name, " is ", size_bytes, " bytes long, its parent ",
                                        options.size_bytes_min, "; give --size ",
                                        options.size_bytes_min, " to fill it up with zeros"));
  }
  return size_bytes;
}

absl::StatusOr<std::unique_ptr<Importer>> OpenImporter(const ImportSourceOptions& options,
                                                       const Progress& progress) {
  COWL_ASSIGN_OR_RETURN(UniqueFd fd, OpenSource(options));
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, "stat", options.name);
  const bool is_directory = S_ISDIR(st.st_mode);
  if (options.format == ImportFormat::kDirectory ||
      (options.format == ImportFormat::kAuto && is_directory)) {
    if (!is_directory) return InvalidArgument(absl::StrCat(options.name, " is not a directory"));
    return OpenDirectoryImporter(options, std::move(fd), progress);
  }
  if (is_directory)
    return InvalidArgument(absl::StrCat(options.name, " is a directory, not a disk file"));
  if (options.format == ImportFormat::kQcow2) {
    COWL_ASSIGN_OR_RETURN(std::unique_ptr<BlockSource> source,
                          OpenQcow2(std::move(fd), options.name, progress));
    return MakeCopy(options, std::move(source));
  }
  if (options.format == ImportFormat::kAuto && S_ISREG(st.st_mode)) {
    COWL_RETURN_IF_ERROR(RefuseArchive(fd.get(), options.name));
  }
  COWL_ASSIGN_OR_RETURN(std::unique_ptr<BlockSource> source,
                        RawSource::Open(std::move(fd), options.name));
  return MakeCopy(options, std::move(source));
}

}  // namespace cowl
