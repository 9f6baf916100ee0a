// Task, and the loop without a thread.
#include "io/task.h"

#include <string>

#include "io/loop.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

Task<int> Return(int value) { co_return value; }

Task<absl::StatusOr<int>> Half(int value) {
  if (value % 2 != 0) co_return InvalidArgument("odd");
  co_return value / 2;
}

Task<absl::StatusOr<int>> Quarter(int value) {
  const absl::StatusOr<int> half = co_await Half(value);
  if (!half.ok()) co_return half.status();
  co_return co_await Half(*half);
}

Task<uint64_t> SumOfMany(int count) {
  uint64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await Return(i);
  co_return sum;
}

Task<int> Nested(int depth) {
  if (depth == 0) co_return 0;
  const int below = co_await Nested(depth - 1);
  co_return below + 1;
}

Task<void> Note(std::string* log, std::string text) {
  *log += text;
  co_return;
}

TEST(Task, RunsOnlyWhenAwaited) {
  std::string log;
  {
    const Task<void> task = Note(&log, "ran");
    EXPECT_EQ(log, "");
  }
  EXPECT_EQ(log, "");
  StartDetached(Note(&log, "ran"));
  EXPECT_EQ(log, "ran");
}

TEST(Task, PassesValuesAndErrorsUp) {
  EXPECT_EQ(*RunInline(Quarter(8)), 2);
  EXPECT_THAT(RunInline(Quarter(6)), IsCode(absl::StatusCode::kInvalidArgument));
}

// A loop of awaits that never suspend must not grow the stack by a frame each, in no build.
TEST(Task, AMillionAwaitsInARowNeedNoStack) {
  EXPECT_EQ(RunInline(SumOfMany(1'000'000)), 499'999'500'000u);
}

TEST(Task, NestsDeeply) { EXPECT_EQ(RunInline(Nested(1000)), 1000); }

}  // namespace
}  // namespace cowl
