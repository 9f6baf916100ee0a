#include "tools/cowl/interrupt.h"

#include <signal.h>

#include <atomic>

namespace cowl {
namespace {

std::atomic<int> g_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free);

void OnSignal(int number) { g_signal = number; }

}  // namespace

void CatchInterrupts() {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction old {};
    ::sigaction(number, nullptr, &old);
    if (old.sa_handler == SIG_IGN) continue;  // nohup
    struct sigaction action {};
    action.sa_handler = OnSignal;
    action.sa_flags = static_cast<int>(SA_RESETHAND);  // the next one ends the process
    ::sigaction(number, &action, nullptr);
  }
}

bool Interrupted() { return g_signal != 0; }

void DieOfInterrupt() {
  if (g_signal == 0) return;
  ::signal(g_signal, SIG_DFL);
  ::raise(g_signal);
}

}  // namespace cowl
