// Traffic: a device knows whether others of its thread were asked for anything since it last
// looked.
#include "device/traffic.h"

#include <gtest/gtest.h>

#include <thread>

namespace cowl {
namespace {

TEST(Traffic, OthersAreNoticedAndOneselfIsNot) {
  Traffic mine;
  Traffic other;
  mine.OthersWereQuiet();  // too early to tell
  mine.Count();
  mine.Count();
  EXPECT_TRUE(mine.OthersWereQuiet());
  other.Count();
  EXPECT_FALSE(mine.OthersWereQuiet());
  EXPECT_TRUE(mine.OthersWereQuiet());
  std::thread([] {
    Traffic elsewhere;
    elsewhere.Count();
  }).join();
  EXPECT_TRUE(mine.OthersWereQuiet()) << "another thread has another loop";
}

}  // namespace
}  // namespace cowl
