#include "io/sync_file.h"

#include <utility>

#include "io/system_file.h"

namespace cowl {
namespace {

class SyncFile final : public SystemFile {
 public:
  SyncFile(Loop& loop, std::string path, UniqueFd fd)
      : SystemFile(std::move(path), std::move(fd)), loop_(loop) {}

  bool Start(IoRequest& request) override {
    IoCursor cursor(request.buffers);
    if (IsDoneOnLoop(request, cursor)) return true;
    const bool is_exclusive = IsExclusive(request.op);
    if (is_exclusive) BeginExclusive();
    const auto execute = [this, &request, cursor, is_exclusive]() mutable {
      Execute(request, cursor);
      if (is_exclusive) EndExclusive();
    };
    loop_.RunAside(execute, request.waiter);
    return false;
  }

 private:
  void Execute(IoRequest& request, IoCursor& cursor) {
    switch (request.op) {
      case IoRequest::Op::kRead:
      case IoRequest::Op::kWrite:
        return TransferNow(request, cursor);
      case IoRequest::Op::kSync:
        return SyncNow(request);
      case IoRequest::Op::kAllocate:
        return AllocateNow(request);
      case IoRequest::Op::kPunchHole:
        return PunchNow(request);
      case IoRequest::Op::kTruncate:
        return TruncateNow(request);
    }
  }

  Loop& loop_;
};

}  // namespace

std::unique_ptr<File> MakeSyncFile(Loop& loop, std::string path, UniqueFd fd) {
  return std::make_unique<SyncFile>(loop, std::move(path), std::move(fd));
}

}  // namespace cowl
