// Sizes as people write them, and as reports show them.
#include "base/size_text.h"

#include <gtest/gtest.h>

#include "base/units.h"

namespace cowl {
namespace {

TEST(ParseSizeBytes, TakesDigitsAndOneUnitOfEitherCase) {
  EXPECT_EQ(*ParseSizeBytes("512"), 512u);
  EXPECT_EQ(*ParseSizeBytes("1K"), 1024u);
  EXPECT_EQ(*ParseSizeBytes("1k"), 1024u);
  EXPECT_EQ(*ParseSizeBytes("3m"), 3 * kMiB);
  EXPECT_EQ(*ParseSizeBytes("20G"), 20 * kGiB);
  EXPECT_EQ(*ParseSizeBytes("64T"), 64 * kTiB);
  EXPECT_EQ(*ParseSizeBytes("0001K"), 1024u);
  EXPECT_EQ(*ParseSizeBytes("70368744177664"), 64 * kTiB);
}

TEST(ParseSizeBytes, RefusesAllElseAndShowsIt) {
  for (const char* const text : {"",
                                 "0",
                                 "0K",
                                 "-1",
                                 "+1K",
                                 "1.5G",
                                 "1KB",
                                 "1KiB",
                                 "K",
                                 "1 K",
                                 " 1K",
                                 "1K ",
                                 "511",
                                 "513",
                                 "1000",
                                 "0x1000",
                                 "1P",
                                 "1e6",
                                 "65T",
                                 "64T1",
                                 "70368744178176",
                                 "65537G",
                                 "18446744073709551616",
                                 "99999999999999999999999999K",
                                 "1\n",
                                 "１K"}) {
    const auto parsed = ParseSizeBytes(text);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_NE(std::string(parsed.status().message()).find("\"" + std::string(text).substr(0, 40)),
              std::string::npos)
        << text;
  }
}

TEST(ParseSizeBytes, ShortensWhatIsAbsurdlyLong) {
  EXPECT_LT(ParseSizeBytes(std::string(10'000, '9')).status().message().size(), 300u);
}

TEST(FormatBytes, ShowsThreeDigitsOrSo) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(4096), "4.0 KiB");
  EXPECT_EQ(FormatBytes(kMiB * 3 / 2), "1.5 MiB");
  EXPECT_EQ(FormatBytes(kMiB - 1), "1.0 MiB");
  EXPECT_EQ(FormatBytes(64 * kTiB), "64.0 TiB");
  EXPECT_EQ(FormatBytes(UINT64_MAX), "16384.0 PiB");
}

TEST(Units, BlocksRoundDownAndUp) {
  EXPECT_EQ(BlocksFloor(4095), 0u);
  EXPECT_EQ(BlocksFloor(4096), 1u);
  EXPECT_EQ(BlocksCeil(0), 0u);
  EXPECT_EQ(BlocksCeil(1), 1u);
  EXPECT_EQ(BlocksCeil(4096), 1u);
  EXPECT_EQ(BlocksCeil(4097), 2u);
  EXPECT_EQ(BlockOffsetBytes(3), 12288u);
  EXPECT_EQ(RoundUp(0, 512), 0u);
  EXPECT_EQ(RoundUp(513, 512), 1024u);
}

}  // namespace
}  // namespace cowl
