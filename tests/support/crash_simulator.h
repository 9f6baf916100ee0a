// crash_simulator.h: from a recording and a position in it, the storage that a crash at that moment
// can leave.
//
// The fault model (a sector is 512 bytes, written whole or not at all):
// - What a completed sync covered is there. A sync covers what was done before it began; one under
// way, or failed, covers nothing.
//   After a failed sync nothing it covered is sure any more, whatever syncs come later: the kernel
//   takes the pages for clean.
// - Every sector written since is, independently, at any of its versions since that sync, or as it
// was at it.
// - A file's size is any it had since; truncations that led to a chosen size have happened, later
// ones have not; a punch
//   may have happened, or not, or in parts. What a file did not have at its chosen size reads as
//   zeros.
// - Names: a create, remove or rename that no SyncDirectory of its folder followed (of both
// folders, for a rename between two), and a
//   create that no completed sync of the file followed either, may each have happened or not.
// - A change that began and is not done may be there in any part.
//
// Deterministic: log, position, mode and seed make one state. Cost: going to a later position costs
// what lies between; an earlier one starts over, so go upwards. A state costs a copy of the durable
// files and a look at what is pending.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "support/recording_storage.h"

namespace cowl {

enum class CrashMode {
  kKeepAll,  // the process was killed, the page cache survived: all that was done; of what is under
             // way nothing
  kTorn,     // the same, and each sector of what is under way at a coin's toss
  kDropUnsynced,  // nothing but what is sure
  kPrefix,  // the disk wrote in order: a prefix of the events, picked by the seed, and what is sure
  kRandom,  // anything the model allows, picked by the seed
};
const char* CrashModeName(CrashMode mode);

class CrashDisk;

class CrashSimulator {
 public:
  // The log outlives the simulator, and may grow meanwhile.
  explicit CrashSimulator(const DiskLog& log);
  ~CrashSimulator();
  CrashSimulator(const CrashSimulator&) = delete;
  CrashSimulator& operator=(const CrashSimulator&) = delete;

  MemoryStorage Build(size_t position, CrashMode mode, uint64_t seed);

  // `count` positions in [first, end], ascending, picked by the seed; all of them where there are
  // no more.
  static std::vector<size_t> PickPositions(size_t first, size_t end, size_t count, uint64_t seed);
  // The last events before the position, a line each: what to print with a failure.
  std::string Describe(size_t position, size_t events_max = 20) const;

 private:
  const DiskLog& log_;
  std::unique_ptr<CrashDisk> disk_;
};

}  // namespace cowl
