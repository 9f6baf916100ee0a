// LookOut: looks before it sleeps where a short wait is likely, and only there.
#include "io/look_out.h"

#include <gtest/gtest.h>

namespace cowl {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr nanoseconds kNoLimit(-1);

bool Looks(const LookOut& look_out, nanoseconds timeout = kNoLimit) {
  return look_out.TimeFor(timeout).count() > 0;
}

TEST(LookOut, SleepsAtOnceUntilWaitsWereShort) {
  LookOut look_out(true);
  EXPECT_FALSE(Looks(look_out));
  for (int i = 0; i < 10; ++i) look_out.NoteWait(microseconds(20), /*slept=*/false);
  EXPECT_TRUE(Looks(look_out));
  EXPECT_EQ(look_out.TimeFor(kNoLimit), LookOut::kTimeMax);
}

TEST(LookOut, AnIdleServerDoesNotLook) {
  LookOut look_out(true);
  for (int i = 0; i < 10; ++i) look_out.NoteWait(microseconds(20), /*slept=*/false);
  int looks = 0;
  for (int i = 0; i < 1000; ++i) {
    looks += Looks(look_out) ? 1 : 0;
    look_out.NoteWait(milliseconds(10), /*slept=*/false);
  }
  EXPECT_LE(looks, 5);
}

TEST(LookOut, LearnsThatEverySecondWaitIsShort) {
  LookOut look_out(true);
  for (int i = 0; i < 20; ++i) {
    look_out.NoteWait(microseconds(300), /*slept=*/false);
    look_out.NoteWait(microseconds(20), /*slept=*/false);
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(Looks(look_out)) << "the wait for the disk";
    look_out.NoteWait(microseconds(300), /*slept=*/false);
    EXPECT_TRUE(Looks(look_out)) << "the wait for the client";
    look_out.NoteWait(microseconds(20), /*slept=*/false);
  }
}

TEST(LookOut, AWakeUpDoesNotMakeAWaitLong) {
  LookOut look_out(true);
  for (int i = 0; i < 10; ++i) look_out.NoteWait(microseconds(80), /*slept=*/true);
  EXPECT_TRUE(Looks(look_out));
  for (int i = 0; i < 10; ++i) look_out.NoteWait(microseconds(120), /*slept=*/true);
  EXPECT_FALSE(Looks(look_out));
}

TEST(LookOut, NotBeforeATimerThatIsNear) {
  LookOut look_out(true);
  for (int i = 0; i < 10; ++i) look_out.NoteWait(microseconds(20), /*slept=*/false);
  EXPECT_FALSE(Looks(look_out, microseconds(10)));
  EXPECT_TRUE(Looks(look_out, milliseconds(10)));
}

TEST(LookOut, NeverOnOneCpu) {
  LookOut look_out(false);
  for (int i = 0; i < 10; ++i) look_out.NoteWait(microseconds(20), /*slept=*/false);
  EXPECT_FALSE(Looks(look_out));
}

}  // namespace
}  // namespace cowl
