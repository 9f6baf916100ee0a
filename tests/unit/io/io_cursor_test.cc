// Short I/O: wherever a system call stops, the next one goes on at the next byte.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "io/system_file.h"

namespace cowl {
namespace {

// The bytes that calls which move at most `step` bytes each would move.
std::string MoveInSteps(const std::vector<iovec>& buffers, size_t step) {
  IoCursor cursor(buffers);
  std::string moved;
  while (!cursor.AtEnd()) {
    size_t left = step;
    for (const iovec& part : cursor.Remaining()) {
      const size_t count = std::min(left, part.iov_len);
      moved.append(static_cast<const char*>(part.iov_base), count);
      left -= count;
    }
    EXPECT_LT(left, step) << "nothing but empty buffers: a call would move nothing";
    if (left == step) break;
    cursor.Advance(step - left);
    EXPECT_EQ(cursor.done_bytes(), moved.size());
  }
  return moved;
}

TEST(IoCursor, GoesOnAtTheNextByteAfterAnyShortCall) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * 7);
  std::vector<iovec> buffers;
  for (size_t at = 0; at < text.size();) {
    const size_t count = std::min<size_t>(at % 9, text.size() - at);  // now and then an empty one
    buffers.push_back({text.data() + at, count});
    at += count;
    if (count == 0) buffers.push_back({text.data() + at++, 1});
  }
  buffers.push_back({nullptr, 0});
  for (const size_t step : {1, 2, 3, 7, 8, 9, 100, 4999, 100'000})
    EXPECT_TRUE(MoveInSteps(buffers, step) == text) << step;
}

TEST(IoCursor, OffersNoMoreBuffersThanOneCallTakes) {
  char byte = 0;
  const std::vector<iovec> buffers(3000, {&byte, 1});
  IoCursor cursor(buffers);
  EXPECT_EQ(cursor.total_bytes(), 3000u);
  EXPECT_EQ(cursor.Remaining().size(), 1024u);
  cursor.Advance(2999);
  EXPECT_EQ(cursor.Remaining().size(), 1u);
  cursor.Advance(1);
  EXPECT_TRUE(cursor.AtEnd());
}

TEST(IoCursor, OfNothingIsAtItsEnd) {
  EXPECT_TRUE(IoCursor().AtEnd());
  const std::vector<iovec> empty(3, {nullptr, 0});
  EXPECT_TRUE(IoCursor(empty).AtEnd());
}

}  // namespace
}  // namespace cowl
