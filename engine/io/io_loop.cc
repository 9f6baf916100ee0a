#include "io/socket.h"
#include "io/sync_loop.h"
#include "io/uring_loop.h"

namespace cowl {

absl::StatusOr<std::unique_ptr<IoLoop>> MakeIoLoop(IoBackend backend) {
  switch (backend) {
    case IoBackend::kUring:
      return UringLoop::Make();
    case IoBackend::kSync:
      return SyncLoop::Make();
  }
  return InvalidArgument("no such I/O back end");
}

}  // namespace cowl
