// reserve.h: a few MiB of disk that nobody uses, so that a full disk never stops space from being
// freed: given away when metadata or a discard meets ENOSPC, taken back when there is room again,
// up to half of it. Threads: any. Errors: none; a reserve that cannot be had is not there.
#pragma once

#include <cstdint>
#include <string>

#include "base/units.h"

namespace cowl {

class Reserve {
 public:
  static constexpr uint64_t kBytes = 4 * kMiB;

  explicit Reserve(std::string path) : path_(std::move(path)) {}

  // True when that freed something.
  bool Spend();
  // Fills it up again, as long as it leaves as much free as it holds.
  void Refill();

 private:
  const std::string path_;
};

}  // namespace cowl
