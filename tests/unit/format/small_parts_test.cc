// Extents and checksum pages.
#include <gtest/gtest.h>

#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "format/checksum_page.h"
#include "format/extent.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

uint64_t Word(const Extent& extent, int index) {
  return LoadLittle<uint64_t>(reinterpret_cast<const std::byte*>(&extent) + 8 * index);
}

Extent FromWords(uint64_t word0, uint64_t word1) {
  const uint64_t words[] = {word0, word1};
  Extent extent;
  std::memcpy(&extent, words, sizeof(extent));
  return extent;
}

TEST(Extent, TheExampleOfTheFormat) {
  const Extent extent = Extent::Data(5, 4, 0, 2);
  EXPECT_EQ(Word(extent, 0), 0x0000000140000003u);
  EXPECT_EQ(Word(extent, 1), 0x4000000000000002u);
}

TEST(Extent, HoldsTheLargestOfEverything) {
  const Extent extent =
      Extent::Data(Extent::kStartLimit - Extent::kLengthMax, Extent::kLengthMax,
                   Extent::kSourceLimit - 1, Extent::kPhysicalLimit - Extent::kLengthMax);
  EXPECT_TRUE(extent.IsValid());
  EXPECT_EQ(extent.start(), Extent::kStartLimit - Extent::kLengthMax);
  EXPECT_EQ(extent.length(), Extent::kLengthMax);
  EXPECT_EQ(extent.end(), Extent::kStartLimit);
  EXPECT_EQ(extent.source(), Extent::kSourceLimit - 1);
  EXPECT_EQ(extent.physical(), Extent::kPhysicalLimit - Extent::kLengthMax);
  const Extent zero = Extent::Zero(Extent::kStartLimit - 1, 1, 3);
  EXPECT_TRUE(zero.IsValid());
  EXPECT_FALSE(zero.is_data());
  EXPECT_EQ(zero.source(), 3u);
}

TEST(Extent, RefusesWhatCannotBe) {
  const uint64_t start = uint64_t{5} << 30;
  EXPECT_TRUE(FromWords(start, uint64_t{1} << 62).IsValid());
  EXPECT_FALSE(FromWords(start, 0).IsValid()) << "no type";
  EXPECT_FALSE(FromWords(start, uint64_t{3} << 62).IsValid()) << "an unknown type";
  EXPECT_FALSE(FromWords(start, uint64_t{2} << 62 | 7).IsValid()) << "a zero extent with a place";
  for (int bit = 56; bit < 62; ++bit)
    EXPECT_FALSE(FromWords(start, uint64_t{1} << 62 | uint64_t{1} << bit).IsValid());
  EXPECT_FALSE(FromWords(UINT64_MAX, uint64_t{1} << 62).IsValid())
      << "passes the end of the largest disk";
  // Its second block would have a number that carries into the source.
  EXPECT_TRUE(Extent::Data(5, 1, 0, Extent::kPhysicalLimit - 1).IsValid());
  EXPECT_FALSE(Extent::Data(5, 2, 0, Extent::kPhysicalLimit - 1).IsValid());
}

TEST(Extent, JoinsOnlyWhatContinues) {
  const Extent first = Extent::Data(10, 5, 1, 100);
  EXPECT_TRUE(first.JoinsWith(Extent::Data(15, 2, 1, 105)));
  EXPECT_FALSE(first.JoinsWith(Extent::Data(16, 2, 1, 105)));
  EXPECT_FALSE(first.JoinsWith(Extent::Data(15, 2, 1, 106)));
  EXPECT_FALSE(first.JoinsWith(Extent::Data(15, 2, 2, 105)));
  EXPECT_FALSE(first.JoinsWith(Extent::Zero(15, 2, 1)));
  EXPECT_TRUE(Extent::Zero(0, 5, 1).JoinsWith(Extent::Zero(5, 5, 1)));
  EXPECT_FALSE(
      Extent::Zero(0, Extent::kLengthMax, 1).JoinsWith(Extent::Zero(Extent::kLengthMax, 1, 1)))
      << "too long for one";
  EXPECT_EQ(first.Slice(12, 14, 9), Extent::Data(12, 2, 9, 102));
}

TEST(ChecksumPage, KeepsItsSumsAndChecksItself) {
  std::vector<std::byte> page(kBlockBytes);
  for (uint64_t i = 0; i < kSumsPerPage; ++i) StoreSum(page, 3 * kSumsPerPage + i, i * 7 + 1);
  FinishSumPage(page, 3);
  EXPECT_OK(VerifySumPage(page, 3, "f"));
  for (uint64_t i = 0; i < kSumsPerPage; ++i)
    EXPECT_EQ(LoadSum(page, 3 * kSumsPerPage + i), i * 7 + 1);
  EXPECT_EQ(LoadLittle<uint64_t>(&page[8]), 3u);
  EXPECT_EQ(LoadLittle<uint64_t>(&page[16]), 1u);
  EXPECT_THAT(VerifySumPage(page, 4, "f"), IsCode(absl::StatusCode::kDataLoss))
      << "in the place of another";
  for (size_t bit = 0; bit < kBlockBytes * 8; ++bit) {
    page[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_THAT(VerifySumPage(page, 3, "f"), IsCode(absl::StatusCode::kDataLoss)) << bit;
    page[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
}

}  // namespace
}  // namespace cowl
