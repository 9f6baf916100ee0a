#include "io/uring_file.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

namespace cowl {

namespace {

// Acts on a descriptor that may be closed before the kernel sees it: at worst some other file's
// data starts on its way.
class WritebackOp final : public RingOp {
 public:
  explicit WritebackOp(int fd) : fd_(fd) {}
  void Prepare(io_uring_sqe* entry) override {
    io_uring_prep_sync_file_range(entry, fd_, 0, 0, SYNC_FILE_RANGE_WRITE);  // 0: to the end
  }
  void Complete(int) override { delete this; }

 private:
  const int fd_;
};

}  // namespace

class UringFile final : public SystemFile {
 public:
  UringFile(UringLoop& loop, std::string path, UniqueFd fd)
      : SystemFile(std::move(path), std::move(fd)), loop_(loop) {}

  bool Start(IoRequest& request) override {
    IoCursor cursor(request.buffers);
    if (IsDoneOnLoop(request, cursor)) return true;
    if (IsExclusive(request.op)) BeginExclusive();
    if (request.op == IoRequest::Op::kTruncate) {  // rings have it from Linux 6.9 on only
      RunTruncateAside(request);
      return false;
    }
    Submit(request, std::move(cursor));
    return false;
  }

  void StartWriteback() override { loop_.ring().Submit(*new WritebackOp(fd())); }

  void Prepare(UringFileOp& op, io_uring_sqe* entry) const {
    const IoRequest& request = *op.request;
    switch (request.op) {
      case IoRequest::Op::kRead:
      case IoRequest::Op::kWrite:
        PrepareTransfer(op, entry);
        break;
      case IoRequest::Op::kSync:
        io_uring_prep_fsync(entry, fd(), IORING_FSYNC_DATASYNC);
        break;
      case IoRequest::Op::kAllocate:
        PrepareAllocate(request, 0, entry);
        break;
      case IoRequest::Op::kPunchHole:
        PrepareAllocate(request, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, entry);
        break;
      case IoRequest::Op::kTruncate:
        COWL_CHECK(false);
    }
  }

  void Complete(UringFileOp& op, int result) {
    IoRequest& request = *op.request;
    const bool is_transfer =
        request.op == IoRequest::Op::kRead || request.op == IoRequest::Op::kWrite;
    if (result == -EINTR || result == -EAGAIN ||
        (is_transfer && Settle(request, op.cursor, result) != Step::kDone)) {
      loop_.ring().Submit(op);  // interrupted, or short: on with the rest
      return;
    }
    if (request.op == IoRequest::Op::kSync) NoteSync(Clock::now() - op.began);
    Release(op);
    if (!is_transfer) {
      if (request.op == IoRequest::Op::kAllocate && result == -EOPNOTSUPP) {
        RunGrowAside(request);
        return;
      }
      if (request.op != IoRequest::Op::kSync) EndExclusive();
      const bool done =
          result >= 0 || (request.op == IoRequest::Op::kPunchHole && result == -EOPNOTSUPP);
      request.status = done ? absl::OkStatus() : Failed(request, -result);
    }
    request.waiter.resume();
  }

 private:
  void Submit(IoRequest& request, IoCursor cursor) {
    auto& spare = loop_.spare_file_ops();
    if (spare.empty()) spare.push_back(std::make_unique<UringFileOp>());
    UringFileOp* const op = spare.back().release();
    spare.pop_back();
    op->file = this;
    op->request = &request;
    op->cursor = std::move(cursor);
    if (request.op == IoRequest::Op::kSync) op->began = Clock::now();
    loop_.ring().Submit(*op);
  }

  void Release(UringFileOp& op) { loop_.spare_file_ops().emplace_back(&op); }

  void PrepareTransfer(UringFileOp& op, io_uring_sqe* entry) const {
    const std::span<const iovec> part = op.cursor.Remaining();
    const uint64_t offset = op.request->offset_bytes + op.cursor.done_bytes();
    const unsigned count = static_cast<unsigned>(part.size());
    if (op.request->op == IoRequest::Op::kRead) {
      io_uring_prep_readv(entry, fd(), part.data(), count, offset);
    } else {
      io_uring_prep_writev(entry, fd(), part.data(), count, offset);
    }
  }

  void PrepareAllocate(const IoRequest& request, int mode, io_uring_sqe* entry) const {
    io_uring_prep_fallocate(entry, fd(), mode, static_cast<off_t>(request.offset_bytes),
                            static_cast<off_t>(request.length_bytes));
  }

  void RunTruncateAside(IoRequest& request) {
    const auto truncate = [this, &request] {
      TruncateNow(request);
      EndExclusive();
    };
    loop_.RunAside(truncate, request.waiter);
  }

  void RunGrowAside(IoRequest& request) {
    const auto grow = [this, &request] {
      GrowNow(request);
      EndExclusive();
    };
    loop_.RunAside(grow, request.waiter);
  }

  UringLoop& loop_;
};

void UringFileOp::Prepare(io_uring_sqe* entry) { file->Prepare(*this, entry); }
void UringFileOp::Complete(int result) { file->Complete(*this, result); }

std::unique_ptr<File> MakeUringFile(UringLoop& loop, std::string path, UniqueFd fd) {
  return std::make_unique<UringFile>(loop, std::move(path), std::move(fd));
}

}  // namespace cowl
