// When a server that was started for somebody ends.
#include "control/hold.h"

#include <gtest/gtest.h>

namespace cowl {
namespace {

struct Holding {
  bool attached = false;
  int ended_count = 0;
  HoldCounter counter;
  explicit Holding(bool ends_by_itself)
      : counter(
            ends_by_itself, [this] { return attached; }, [this] { ++ended_count; }) {}
};

TEST(HoldTest, AServerOfItsOwnNeverEnds) {
  Holding holding(false);
  ASSERT_TRUE(holding.counter.Begin().ok());
  EXPECT_FALSE(holding.counter.End());
  holding.counter.EndWhenIdle(std::chrono::seconds(0));
  EXPECT_EQ(holding.ended_count, 0);
}

TEST(HoldTest, TheLastHoldEndsIt) {
  Holding holding(true);
  ASSERT_TRUE(holding.counter.Begin().ok());
  ASSERT_TRUE(holding.counter.Begin().ok());
  EXPECT_FALSE(holding.counter.End());
  EXPECT_TRUE(holding.counter.End());
  EXPECT_EQ(holding.ended_count, 1);
  EXPECT_TRUE(absl::IsUnavailable(holding.counter.Begin())) << "nobody may hold what is ending";
}

TEST(HoldTest, AnAttachmentKeepsItUntilTheHoldAfterTheDetach) {
  Holding holding(true);
  ASSERT_TRUE(holding.counter.Begin().ok());
  holding.attached = true;
  EXPECT_FALSE(holding.counter.End());
  ASSERT_TRUE(holding.counter.Begin().ok());
  holding.attached = false;
  EXPECT_TRUE(holding.counter.End());
}

TEST(HoldTest, OneThatNobodyComesToHoldEndsAfterAWhile) {
  Holding holding(true);
  holding.counter.EndWhenIdle(std::chrono::seconds(100));
  EXPECT_EQ(holding.ended_count, 0);
  holding.counter.EndWhenIdle(std::chrono::seconds(0));
  EXPECT_EQ(holding.ended_count, 1);
}

TEST(HoldTest, WhoComesWhileItLooksForAttachmentsKeepsIt) {
  bool has_come = false;
  HoldCounter* counter = nullptr;
  int ended_count = 0;
  HoldCounter held(
      true,
      [&] {
        if (!has_come) {
          EXPECT_TRUE(counter->Begin().ok());
        }
        has_come = true;
        return false;
      },
      [&] { ++ended_count; });
  counter = &held;
  ASSERT_TRUE(held.Begin().ok());
  EXPECT_FALSE(held.End());
  EXPECT_EQ(ended_count, 0);
}

}  // namespace
}  // namespace cowl
