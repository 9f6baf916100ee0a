// Crashes: random stories of devices, cut everywhere. COWL_CRASH_LONG=1 tells stories for ten
// minutes.
#include "story.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>

#include "stack/seeds.h"

namespace cowl {
namespace {

using Clock = std::chrono::steady_clock;

// Tells stories until the time is up, or one ends badly.
void TellStories(uint64_t number, StoryOptions options, int seconds) {
  if (std::getenv("COWL_CRASH_LONG") != nullptr) seconds *= 15;
  const char* const only =
      std::getenv("COWL_STORY");  // one story, by the seed that a failure names
  TestSeed();
  std::mt19937_64 random = TestRandom(number);
  StoryCounts counts;
  uint64_t stories = 0;
  const auto deadline = Clock::now() + std::chrono::seconds(seconds);
  do {
    options.seed = only != nullptr ? std::strtoull(only, nullptr, 0) : random();
    ++stories;
    const std::string problem = TellStory(options, &counts);
    ASSERT_EQ(problem, "") << "COWL_STORY=" << options.seed << " tells this story again";
  } while (only == nullptr && Clock::now() < deadline);
  std::printf(
      "%llu stories: %llu states, %llu kills, %llu power cuts lived on, %llu snapshots, %llu "
      "rolled forward, %llu back\n",
      static_cast<unsigned long long>(stories), static_cast<unsigned long long>(counts.states),
      static_cast<unsigned long long>(counts.kills),
      static_cast<unsigned long long>(counts.power_cuts_lived_on),
      static_cast<unsigned long long>(counts.snapshots),
      static_cast<unsigned long long>(counts.forward),
      static_cast<unsigned long long>(counts.back));
}

TEST(CrashStory, OneDevice) { TellStories(1, {.with_control = false}, 8); }

TEST(CrashStory, FewBlocksWrittenOverAndOver) {
  TellStories(2, {.blocks = 5, .clients = 3, .requests = 40, .with_control = false, .cuts = 40}, 8);
}

TEST(CrashStory, WithSnapshotsAndCheckpoints) { TellStories(3, {}, 12); }

TEST(CrashStory, SyncsThatFail) { TellStories(4, {.lives = 3, .cuts = 30, .sync_failures = 2}, 8); }

TEST(CrashStory, OneRequestAtATime) {
  TellStories(5, {.lives = 2, .clients = 1, .requests = 60}, 6);
}

}  // namespace
}  // namespace cowl
