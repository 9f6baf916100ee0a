// story.h: one random life story of a device: lives that end in order, by kill -9 or by power cut,
// each recorded, each cut at many moments in many ways; and the check that what such a cut leaves
// is a state the device may stand at. Everything is picked by the seed. Threads: one.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "history.h"
#include "stack/shuffled_loop.h"
#include "stack/stack.h"
#include "support/crash_simulator.h"
#include "support/recording_storage.h"

namespace cowl {

struct StoryOptions {
  uint64_t seed = 0;
  uint64_t blocks = 96;      // of the device, and some sectors
  int lives = 3;             // on one disk, each but the last ending by close, drop, commit or kill
  int clients = 6;           // requests in flight
  int requests = 120;        // a life
  bool with_control = true;  // snapshots, checkpoints, deletions, garbage collection meanwhile
  bool with_flushes = true;
  int cuts = 60;  // positions a life
  int states_a_cut = 3;
  int depth = 2;  // power cuts in a row: the states of the first are lived on in, and cut again
  int sync_failures = 0;  // how many lives have a sync that fails
};

// What was done, for the report.
struct StoryCounts {
  uint64_t states = 0;
  uint64_t power_cuts_lived_on = 0;
  uint64_t kills = 0;
  uint64_t snapshots = 0;
  uint64_t drops = 0;    // of what the overlay hides
  uint64_t forward = 0;  // recoveries that rolled a snapshot forward
  uint64_t back = 0;
  void Add(const StoryCounts& other);
};

// "" when all went well, else what did not.
std::string TellStory(const StoryOptions& options, StoryCounts* counts);

}  // namespace cowl
