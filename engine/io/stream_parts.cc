#include "io/stream_parts.h"

#include <pthread.h>
#include <signal.h>

#include <cerrno>
#include <ctime>

namespace cowl {
namespace {

sigset_t OnlySigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

bool IsPassingAcceptError(int error_number) {
  switch (error_number) {  // accept(2), "Error handling"
    case ECONNABORTED:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EINTR:
      return true;
    default:
      return false;
  }
}

SigpipeHeld::SigpipeHeld() {
  const sigset_t set = OnlySigpipe();
  sigset_t before;
  pthread_sigmask(SIG_BLOCK, &set, &before);
  was_blocked_ = sigismember(&before, SIGPIPE) == 1;
}

SigpipeHeld::~SigpipeHeld() {
  if (was_blocked_) return;
  const sigset_t set = OnlySigpipe();
  const timespec no_wait{0, 0};
  while (sigtimedwait(&set, nullptr, &no_wait) == SIGPIPE) {
  }
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

}  // namespace cowl
