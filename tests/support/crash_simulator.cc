#include "support/crash_simulator.h"

#include <algorithm>
#include <random>
#include <set>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "support/crash_disk.h"

namespace cowl {

const char* CrashModeName(CrashMode mode) {
  switch (mode) {
    case CrashMode::kKeepAll:
      return "keep all";
    case CrashMode::kTorn:
      return "torn";
    case CrashMode::kDropUnsynced:
      return "drop unsynced";
    case CrashMode::kPrefix:
      return "prefix";
    case CrashMode::kRandom:
      return "random";
  }
  return "?";
}

CrashSimulator::CrashSimulator(const DiskLog& log)
    : log_(log), disk_(std::make_unique<CrashDisk>(log)) {}

CrashSimulator::~CrashSimulator() = default;

MemoryStorage CrashSimulator::Build(size_t position, CrashMode mode, uint64_t seed) {
  COWL_CHECK(position <= log_.position());
  if (position < disk_->position()) disk_ = std::make_unique<CrashDisk>(log_);
  disk_->AdvanceTo(position);
  return disk_->Build(mode, seed);
}

std::vector<size_t> CrashSimulator::PickPositions(size_t first, size_t end, size_t count,
                                                  uint64_t seed) {
  std::vector<size_t> positions;
  if (end - first + 1 <= count) {
    for (size_t position = first; position <= end; ++position) positions.push_back(position);
    return positions;
  }
  std::mt19937_64 random(seed);
  std::set<size_t> picked;
  while (picked.size() < count) picked.insert(first + random() % (end - first + 1));
  positions.assign(picked.begin(), picked.end());
  return positions;
}

std::string CrashSimulator::Describe(size_t position, size_t events_max) const {
  std::string text;
  for (size_t i = position - std::min(position, events_max); i < position; ++i) {
    absl::StrAppend(&text, i, ": ", log_.events[i].ToString(), "\n");
  }
  return text;
}

}  // namespace cowl
