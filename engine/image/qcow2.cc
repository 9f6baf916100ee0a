#include "image/qcow2.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"
#include "image/child_process.h"
#include "image/copy.h"
#include "image/nbd_client.h"

namespace cowl {
namespace {

constexpr char kPackage[] = "qemu-utils";
constexpr int kCheckFoundLeaks = 3;  // space lost, nothing else
constexpr uint32_t kMagic = 0x514649fb;
constexpr uint64_t kExternalDataFile = 1 << 2;  // of the incompatible features

// Field offsets of the header, big-endian.
constexpr size_t kVersionAt = 4;
constexpr size_t kBackingFileAt = 8;
constexpr size_t kEncryptionAt = 32;
constexpr size_t kFeaturesAt = 72;  // version 3

// The image as qemu's programs are told of it. Backing null: even one that grew a backing file
// since its header was looked at gets none.
constexpr char kUntrustedImage[] =
    R"(json:{"driver":"qcow2","backing":null,"file":{"driver":"nbd","server":{"type":"fd","str":"4"}}})";

// A server of the file's bytes, which parses nothing, and a connection to it for a program that
// does.
struct BytesServer {
  std::unique_ptr<ChildProcess> child;
  UniqueFd connection;
};

absl::StatusOr<BytesServer> ServeBytes(int fd) {
  COWL_ASSIGN_OR_RETURN(PrivateSocket bytes, MakePrivateSocket());
  BytesServer server;
  COWL_ASSIGN_OR_RETURN(
      server.child,
      ChildProcess::Start({.arguments = {"qemu-nbd", "--read-only", "--format=raw", "/dev/fd/4"},
                           .package = kPackage,
                           .listen_fd = bytes.listening.get(),
                           .extra_fd = fd}));
  server.connection = std::move(bytes.connected);
  return server;
}

// Of a file that is cut short, qemu reads what is missing as zeros; only its check tells.
absl::Status CheckStructure(int fd, const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const BytesServer bytes, ServeBytes(fd));
  COWL_ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> check,
      ChildProcess::Start({.arguments = {"qemu-img", "check", "-q", kUntrustedImage},
                           .package = kPackage,
                           .extra_fd = bytes.connection.get(),
                           .untrusted = true}));
  COWL_ASSIGN_OR_RETURN(const int status, check->WaitForStatus());
  if (status == 0 || status == kCheckFoundLeaks) return absl::OkStatus();
  return DataLoss(absl::StrCat(name, " is damaged or cut short: qemu-img check: ", check->Said()));
}

class Qcow2Source : public BlockSource {
 public:
  absl::Status Open(int fd, const std::string& name, const Progress& progress) {
    COWL_ASSIGN_OR_RETURN(BytesServer bytes, ServeBytes(fd));
    bytes_server_ = std::move(bytes.child);
    COWL_ASSIGN_OR_RETURN(PrivateSocket disk, MakePrivateSocket());
    COWL_ASSIGN_OR_RETURN(
        disk_server_,
        ChildProcess::Start({.arguments = {"qemu-nbd", "--read-only", kUntrustedImage},
                             .package = kPackage,
                             .listen_fd = disk.listening.get(),
                             .extra_fd = bytes.connection.get(),
                             .untrusted = true}));
    // Only the servers hold them now: when one dies, the other side notices.
    bytes.connection.Reset();
    disk.listening.Reset();
    COWL_ASSIGN_OR_RETURN(
        client_, NbdClient::Connect(
                     std::move(disk.connected), name, [this] { return Said(); }, progress));
    return absl::OkStatus();
  }

  uint64_t size_bytes() const override { return client_->size_bytes(); }

  absl::StatusOr<SourceRun> Next(uint64_t offset_bytes) override {
    while (at_ < runs_.size() && offset_bytes >= run_begin_ + runs_[at_].length_bytes) {
      run_begin_ += runs_[at_++].length_bytes;
    }
    if (at_ == runs_.size() || offset_bytes < run_begin_) {
      COWL_ASSIGN_OR_RETURN(runs_, client_->Runs(offset_bytes));
      at_ = 0;
      run_begin_ = offset_bytes;
    }
    const uint64_t end = std::min(run_begin_ + runs_[at_].length_bytes, size_bytes());
    return SourceRun{end - offset_bytes, runs_[at_].zero};
  }

  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into) override {
    return client_->Read(offset_bytes, into);
  }

 private:
  std::string Said() const {
    const std::string said = disk_server_->Said();
    return said.empty() ? bytes_server_->Said() : said;
  }

  std::unique_ptr<ChildProcess> bytes_server_;
  std::unique_ptr<ChildProcess> disk_server_;
  std::unique_ptr<NbdClient> client_;  // last made, first gone
  // A stretch of the map; runs_[at_] begins at run_begin_. Questions come in order.
  std::vector<SourceRun> runs_;
  size_t at_ = 0;
  uint64_t run_begin_ = 0;
};

absl::Status CreateEmptyQcow2(int fd, uint64_t size_bytes) {
  COWL_ASSIGN_OR_RETURN(
      const std::unique_ptr<ChildProcess> create,
      ChildProcess::Start({.arguments = {"qemu-img", "create", "-q", "-f", "qcow2", "/dev/fd/4",
                                         absl::StrCat(size_bytes)},
                           .package = kPackage,
                           .extra_fd = fd}));
  return create->Wait();
}

absl::Status CopyTo(NbdClient& target, BlockSource& source, const Progress& progress) {
  const uint64_t size = source.size_bytes();
  std::vector<std::byte> buffer(kCopyRunBytes);
  for (uint64_t offset = 0; offset < size;) {
    COWL_RETURN_IF_ERROR(Report(progress, offset, size));
    COWL_ASSIGN_OR_RETURN(const SourceRun run, source.Next(offset));
    if (run.zero) {
      offset += run.length_bytes;
      continue;
    }
    // Ends at multiples of 1 MiB, so that whole clusters are written.
    const uint64_t end =
        std::min(offset + run.length_bytes, offset / kCopyRunBytes * kCopyRunBytes + kCopyRunBytes);
    const std::span<std::byte> part(buffer.data(), end - offset);
    COWL_RETURN_IF_ERROR(source.Read(offset, part));
    COWL_RETURN_IF_ERROR(ForEachDataRun(part, [&](size_t at, std::span<const std::byte> data) {
      return target.Write(offset + at, data);
    }));
    offset = end;
  }
  COWL_RETURN_IF_ERROR(target.Flush());
  return Report(progress, size, size);
}

}  // namespace

absl::Status CheckQcow2Header(std::span<const std::byte> header, const std::string& name) {
  if (header.size() < kFeaturesAt || LoadBig<uint32_t>(header.data()) != kMagic) {
    return InvalidArgument(absl::StrCat(name, " is not a qcow2 image"));
  }
  const uint32_t version = LoadBig<uint32_t>(header.data() + kVersionAt);
  if (version != 2 && version != 3) {
    return InvalidArgument(
        absl::StrCat(name, " is a qcow2 image of version ", version, "; 2 and 3 can be read"));
  }
  if (version == 3 && header.size() < kQcow2HeaderBytes) {
    return InvalidArgument(absl::StrCat(name, " ends inside its header"));
  }
  if (LoadBig<uint64_t>(header.data() + kBackingFileAt) != 0) {
    return InvalidArgument(
        absl::StrCat(name,
                     " has a backing file, which could be any file of this host; "
                     "flatten it first: qemu-img convert -O qcow2 ",
                     name, " FLAT.qcow2"));
  }
  if (version == 3 && (LoadBig<uint64_t>(header.data() + kFeaturesAt) & kExternalDataFile) != 0) {
    return InvalidArgument(
        absl::StrCat(name,
                     " keeps its data in another file, which could be any file of this host; "
                     "make it one first: qemu-img convert -O qcow2 ",
                     name, " FLAT.qcow2"));
  }
  if (LoadBig<uint32_t>(header.data() + kEncryptionAt) != 0) {
    return InvalidArgument(
        absl::StrCat(name, " is encrypted; decrypt it first with qemu-img convert"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<BlockSource>> OpenQcow2(UniqueFd fd, const std::string& name,
                                                       const Progress& progress) {
  std::array<std::byte, kQcow2HeaderBytes> header{};
  const ssize_t got = pread(fd.get(), header.data(), header.size(), 0);
  if (got < 0) return ErrnoStatus(errno, "read", name);
  COWL_RETURN_IF_ERROR(CheckQcow2Header(std::span(header).first(static_cast<size_t>(got)), name));
  auto source = std::make_unique<Qcow2Source>();
  COWL_RETURN_IF_ERROR(CheckStructure(fd.get(), name));
  COWL_RETURN_IF_ERROR(source->Open(fd.get(), name, progress));
  return source;
}

absl::Status WriteQcow2File(BlockSource& source, int fd, const std::string& name,
                            const Progress& progress) {
  COWL_RETURN_IF_ERROR(CreateEmptyQcow2(fd, source.size_bytes()));
  COWL_ASSIGN_OR_RETURN(PrivateSocket disk, MakePrivateSocket());
  const std::string image =
      R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"/dev/fd/4"}})";
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<ChildProcess> server,
                        ChildProcess::Start({.arguments = {"qemu-nbd", "--discard=unmap", image},
                                             .package = kPackage,
                                             .listen_fd = disk.listening.get(),
                                             .extra_fd = fd}));
  disk.listening.Reset();
  COWL_ASSIGN_OR_RETURN(
      const std::unique_ptr<NbdClient> client,
      NbdClient::Connect(
          std::move(disk.connected), name, [&] { return server->Said(); }, progress));
  COWL_RETURN_IF_ERROR(CopyTo(*client, source, progress));
  client->Disconnect();
  return server->Wait();
}

}  // namespace cowl
