#include "io/look_out.h"

#include <sched.h>

namespace cowl {
namespace {

int CpusOfThisProcess() {
  cpu_set_t cpus;
  return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 2;
}

}  // namespace

LookOut::LookOut() : LookOut(CpusOfThisProcess() > 1) {}

}  // namespace cowl
