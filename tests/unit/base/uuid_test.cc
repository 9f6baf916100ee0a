// Random identities and their text.
#include "base/uuid.h"

#include <gtest/gtest.h>

#include <unordered_set>

namespace cowl {
namespace {

TEST(Uuid, RandomOnesAreVersion4AndDiffer) {
  std::unordered_set<Uuid> seen;
  for (int i = 0; i < 1000; ++i) {
    const Uuid id = Uuid::Random();
    EXPECT_EQ(id.bytes[6] >> 4, 4);
    EXPECT_EQ(id.bytes[8] >> 6, 2);
    EXPECT_FALSE(id.IsNil());
    EXPECT_TRUE(seen.insert(id).second);
    EXPECT_EQ(Uuid::Parse(id.ToString()), id);
  }
}

TEST(Uuid, TextIsTheUsualOne) {
  Uuid id;
  for (size_t i = 0; i < id.bytes.size(); ++i) id.bytes[i] = static_cast<uint8_t>(i * 17);
  EXPECT_EQ(id.ToString(), "00112233-4455-6677-8899-aabbccddeeff");
  EXPECT_EQ(Uuid{}.ToString(), "00000000-0000-0000-0000-000000000000");
}

TEST(Uuid, ParseTakesNothingElse) {
  const std::string good = "00112233-4455-6677-8899-aabbccddeeff";
  ASSERT_TRUE(Uuid::Parse(good).has_value());
  EXPECT_FALSE(Uuid::Parse(""));
  EXPECT_FALSE(Uuid::Parse(good + " "));
  EXPECT_FALSE(Uuid::Parse(good.substr(0, 35)));
  EXPECT_FALSE(Uuid::Parse("00112233-4455-6677-8899-AABBCCDDEEFF"));
  EXPECT_FALSE(Uuid::Parse("00112233445566778899aabbccddeeff0000"));
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = bad[i] == '-' ? '0' : '-';
    EXPECT_FALSE(Uuid::Parse(bad)) << bad;
    bad[i] = 'g';
    EXPECT_FALSE(Uuid::Parse(bad)) << bad;
    bad[i] = '\0';
    EXPECT_FALSE(Uuid::Parse(bad));
  }
}

TEST(RandomSecret, Differs) { EXPECT_NE(RandomSecret(), RandomSecret()); }

}  // namespace
}  // namespace cowl
