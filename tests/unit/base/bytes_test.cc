// Byte orders, zero ranges, checksums, descriptors.
#include "base/bytes.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/checksum.h"
#include "base/unique_fd.h"

namespace cowl {
namespace {

TEST(Bytes, LittleAndBigEndianAreWhatTheySay) {
  unsigned char memory[9] = {};
  StoreLittle<uint32_t>(memory + 1, 0x01020304);  // not aligned
  EXPECT_EQ(memory[1], 4);
  EXPECT_EQ(memory[4], 1);
  EXPECT_EQ(LoadLittle<uint32_t>(memory + 1), 0x01020304u);
  StoreBig<uint64_t>(memory + 1, 0x0102030405060708);
  EXPECT_EQ(memory[1], 1);
  EXPECT_EQ(memory[8], 8);
  EXPECT_EQ(LoadBig<uint64_t>(memory + 1), 0x0102030405060708u);
  EXPECT_EQ(LoadBig<uint16_t>(memory + 1), 0x0102u);
}

TEST(Bytes, IsZeroSeesAnySingleBit) {
  EXPECT_TRUE(IsZero({}));
  for (const size_t size : {1, 2, 7, 8, 63, 4096}) {
    std::vector<std::byte> bytes(size);
    EXPECT_TRUE(IsZero(bytes));
    for (size_t i = 0; i < size; i += 1 + size / 97) {
      bytes[i] = std::byte{0x80};
      EXPECT_FALSE(IsZero(bytes)) << i << " of " << size;
      bytes[i] = std::byte{0};
    }
    bytes.back() = std::byte{1};
    EXPECT_FALSE(IsZero(bytes));
  }
  const std::vector<std::byte> ones(100, std::byte{1});
  EXPECT_FALSE(IsZero(ones)) << "equal bytes are not zero bytes";
}

TEST(Bytes, TextAndBytesAreTwoViewsOfTheSame) {
  const std::string text("a\0b", 3);
  EXPECT_EQ(AsText(AsBytes(text)), text);
}

// The checksum is on the disk: its value must never change.
TEST(Xxh3, GivesThePublishedValues) {
  EXPECT_EQ(Xxh3({}), 0x2d06800538d394c2u);
  EXPECT_NE(Xxh3(AsBytes("a")), Xxh3(AsBytes("b")));
  EXPECT_NE(Xxh3(AsBytes("a"), 1), Xxh3(AsBytes("a"), 2));
  EXPECT_EQ(Xxh3(AsBytes("a"), 0), Xxh3(AsBytes("a")));
}

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesOnceAndMoves) {
  UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = first.get();
  ASSERT_TRUE(IsOpen(number));
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first.valid());
  EXPECT_EQ(second.get(), number);
  second = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(IsOpen(number));
  const int released = second.Release();
  second.Reset();
  EXPECT_TRUE(IsOpen(released));
  second.Reset(released);
  second.Reset();
  EXPECT_FALSE(IsOpen(released));
}

}  // namespace
}  // namespace cowl
