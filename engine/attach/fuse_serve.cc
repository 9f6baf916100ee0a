// The process behind a FUSE file: a few threads, each taking a request from the kernel and
// answering it, before the next, from a connection of the pool.
#define FUSE_USE_VERSION 312

#include <fcntl.h>
#include <fuse3/fuse_lowlevel.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "attach/attach.h"
#include "attach/fuse_arguments.h"
#include "attach/nbd_pool.h"
#include "attach/text_file.h"
#include "base/status.h"
#include "base/units.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace cowl {
namespace {

constexpr unsigned kRequestBytesMax = 1 * kMiB;
constexpr double kNeverCached = 0.0;

struct Served {
  NbdPool* pool;
  bool read_only;
};

Served& ServedOf(fuse_req_t request) { return *static_cast<Served*>(fuse_req_userdata(request)); }

int ErrnoOf(const absl::Status& status) {
  if (status.ok()) return 0;
  if (absl::IsUnavailable(status) || absl::IsFailedPrecondition(status)) return EIO;
  const int error = StatusErrno(status);
  return error != 0 ? error : EIO;
}

struct stat FileStat(fuse_req_t request) {
  const Served& served = ServedOf(request);
  struct stat stat = {};
  stat.st_ino = FUSE_ROOT_ID;
  stat.st_mode = S_IFREG | (served.read_only ? 0400 : 0600);
  stat.st_nlink = 1;
  stat.st_size = static_cast<off_t>(served.pool->size_bytes());
  stat.st_blksize = kBlockBytes;
  return stat;
}

void OnInit(void*, fuse_conn_info* connection) {
  connection->max_write = kRequestBytesMax;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
}

void OnGetAttr(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  const struct stat stat = FileStat(request);
  fuse_reply_attr(request, &stat, kNeverCached);
}

// The one change there is to make: "take over the server's size", said as a truncate to that very
// size.
void OnSetAttr(fuse_req_t request, fuse_ino_t, struct stat* wanted, int to_set, fuse_file_info*) {
  if ((to_set & FUSE_SET_ATTR_SIZE) == 0) {
    fuse_reply_err(request, EPERM);
    return;
  }
  const absl::StatusOr<uint64_t> size_bytes = ServedOf(request).pool->RefreshSize();
  if (!size_bytes.ok() || *size_bytes != static_cast<uint64_t>(wanted->st_size)) {
    fuse_reply_err(request, size_bytes.ok() ? EINVAL : EIO);
    return;
  }
  const struct stat stat = FileStat(request);
  fuse_reply_attr(request, &stat, kNeverCached);
}

void OnOpen(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
  if (ServedOf(request).read_only && (file->flags & O_ACCMODE) != O_RDONLY) {
    fuse_reply_err(request, EROFS);
    return;
  }
  file->direct_io = 1;
  fuse_reply_open(request, file);
}

// What of [offset, offset + length) lies inside the file.
uint64_t Clip(const Served& served, off_t offset, uint64_t length) {
  const uint64_t size = served.pool->size_bytes();
  const uint64_t begin = static_cast<uint64_t>(offset);
  return begin >= size ? 0 : std::min(length, size - begin);
}

void OnRead(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  thread_local std::vector<std::byte> buffer(kRequestBytesMax);
  const Served& served = ServedOf(request);
  const uint64_t length = Clip(served, offset, std::min<size_t>(size, kRequestBytesMax));
  const std::span<std::byte> into(buffer.data(), length);
  const absl::Status status = served.pool->Run(
      [&](NbdClient& client) { return client.Read(static_cast<uint64_t>(offset), into); });
  if (status.ok()) {
    fuse_reply_buf(request, reinterpret_cast<const char*>(buffer.data()), length);
  } else {
    fuse_reply_err(request, ErrnoOf(status));
  }
}

void OnWrite(fuse_req_t request, fuse_ino_t, const char* data, size_t size, off_t offset,
             fuse_file_info*) {
  const Served& served = ServedOf(request);
  if (Clip(served, offset, size) != size) {
    fuse_reply_err(request, ENOSPC);
    return;
  }
  const std::span<const std::byte> from(reinterpret_cast<const std::byte*>(data), size);
  const uint64_t begin = static_cast<uint64_t>(offset);
  const absl::Status status = served.pool->RunChange(
      begin, size, [&](NbdClient& client) { return client.Write(begin, from); });
  if (status.ok()) {
    fuse_reply_write(request, size);
  } else {
    fuse_reply_err(request, ErrnoOf(status));
  }
}

void OnSync(fuse_req_t request, fuse_ino_t, int, fuse_file_info*) {
  const absl::Status status =
      ServedOf(request).pool->Run([](NbdClient& client) { return client.Flush(); });
  fuse_reply_err(request, ErrnoOf(status));
}

void OnFlush(fuse_req_t request, fuse_ino_t, fuse_file_info*) { fuse_reply_err(request, 0); }

// A loop device turns discards and write-zeroes into these. Both promise zeros to the reader, which
// NBD's trim does not: so both are write-zeroes on the wire, with leave to make a hole of it. A
// zeroed range that asks to keep its space gets no more than that either: the disk is a thin one,
// and mkfs.ext4 would have its whole journal stored as zeros.
void OnFallocate(fuse_req_t request, fuse_ino_t, int mode, off_t offset, off_t length,
                 fuse_file_info*) {
  const bool punch = mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  const bool zero = (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
  if (!punch && !zero) {
    fuse_reply_err(request, EOPNOTSUPP);
    return;
  }
  const Served& served = ServedOf(request);
  const uint64_t inside = Clip(served, offset, static_cast<uint64_t>(length));
  const uint64_t begin = static_cast<uint64_t>(offset);
  const absl::Status status = served.pool->RunChange(
      begin, inside, [&](NbdClient& client) { return client.Zero(begin, inside); });
  fuse_reply_err(request, ErrnoOf(status));
}

// The loop device takes its discard granularity from the block size told here.
void OnStatFs(fuse_req_t request, fuse_ino_t) {
  struct statvfs stat = {};
  stat.f_bsize = kBlockBytes;
  stat.f_frsize = kBlockBytes;
  stat.f_blocks = BlocksCeil(ServedOf(request).pool->size_bytes());
  stat.f_namemax = 255;
  fuse_reply_statfs(request, &stat);
}

fuse_lowlevel_ops Operations() {
  fuse_lowlevel_ops operations = {};
  operations.init = OnInit;
  operations.getattr = OnGetAttr;
  operations.setattr = OnSetAttr;
  operations.open = OnOpen;
  operations.read = OnRead;
  operations.write = OnWrite;
  operations.fsync = OnSync;
  operations.flush = OnFlush;
  operations.fallocate = OnFallocate;
  operations.statfs = OnStatFs;
  return operations;
}

void AnswerRequests(fuse_session* session) {
  fuse_buf buffer = {};
  while (fuse_session_exited(session) == 0) {
    const int n = fuse_session_receive_buf(session, &buffer);
    if (n == -EINTR) continue;
    if (n <= 0) break;
    fuse_session_process_buf(session, &buffer);
  }
  // The file is unmounted: nobody waits for an answer any more, and threads may be waiting for a
  // server that is gone.
  _exit(0);
}

// Memory must not be waited for by writing to the very disk this process serves, nor be got back by
// killing it.
void BecomeStorage() {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGPIPE}) ::signal(signal, SIG_IGN);
  prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
  (void)ReplaceTextInPlace("/proc/self/oom_score_adj", "-1000");
}

absl::StatusOr<fuse_session*> MountFile(const FuseOptions& options, Served* served) {
  static const fuse_lowlevel_ops operations = Operations();
  std::string mount_options = "fsname=" + options.source + ",subtype=cowl,default_permissions";
  if (options.read_only) mount_options += ",ro";
  std::vector<std::string> words = {"cowl", "-o", mount_options};
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  fuse_args arguments = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  fuse_session* session = fuse_session_new(&arguments, &operations, sizeof(operations), served);
  fuse_opt_free_args(&arguments);
  if (session == nullptr) return Internal("the FUSE library refused its options");
  if (fuse_session_mount(session, options.file.c_str()) != 0) {
    return FailedPrecondition("FUSE could not be mounted on " + options.file +
                              ": see that /dev/fuse is there and may be used");
  }
  return session;
}

absl::Status Serve(const FuseOptions& options) {
  PoolOptions pool_options;
  pool_options.socket_path = options.socket_path;
  pool_options.export_name = options.export_name;
  pool_options.identity = options.identity;
  pool_options.connections = options.connections;
  pool_options.dead_server_timeout = std::chrono::seconds(options.dead_server_timeout_s);
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<NbdPool> pool, NbdPool::Open(pool_options));
  Served served{pool.get(), options.read_only};
  BecomeStorage();
  COWL_ASSIGN_OR_RETURN(fuse_session* const session, MountFile(options, &served));
  TellParent("");
  std::vector<std::thread> threads;
  for (int i = 0; i < options.connections; ++i) threads.emplace_back(AnswerRequests, session);
  for (std::thread& thread : threads) thread.join();
  return absl::OkStatus();
}

}  // namespace

int FuseServeMain(int argc, char** argv) {
  absl::StatusOr<FuseOptions> options = DecodeFuseArguments(argc, argv);
  const absl::Status status = options.ok() ? Serve(*options) : options.status();
  if (status.ok()) return 0;
  TellParent(Message(status));
  return 1;
}

}  // namespace cowl
