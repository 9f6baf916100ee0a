// Names of images and devices.
#include "cowl/names.h"

#include <gtest/gtest.h>

namespace cowl {
namespace {

using absl::StatusCode;

TEST(ParseImageName, TakesNameAndTag) {
  const auto name = ParseImageName("debian.12_x-y:v1.0-RC_2");
  ASSERT_TRUE(name.ok()) << name.status();
  EXPECT_EQ(name->name, "debian.12_x-y");
  EXPECT_EQ(name->tag, "v1.0-RC_2");
  EXPECT_EQ(name->ToString(), "debian.12_x-y:v1.0-RC_2");
}

TEST(ParseImageName, TheTagIsLatestWhenNoneIsGiven) {
  EXPECT_EQ(ParseImageName("0")->tag, "latest");
  EXPECT_EQ(ParseImageName("base")->ToString(), "base:latest");
}

TEST(ParseImageName, ALengthOf128IsTheLimit) {
  EXPECT_TRUE(ParseImageName(std::string(128, 'a') + ":" + std::string(128, 'B')).ok());
  EXPECT_FALSE(ParseImageName(std::string(129, 'a')).ok());
  EXPECT_FALSE(ParseImageName("a:" + std::string(129, 'B')).ok());
}

TEST(ParseImageName, RefusesWhatTheGrammarDoesNotKnow) {
  using std::string_literals::operator""s;
  for (const std::string& text :
       {""s,     "."s,     ".."s, "-a"s,  "_a"s,   ".a"s,    "A"s,     "a/b"s,
        "/a"s,   "a b"s,   " a"s, "a:"s,  ":a"s,   ":"s,     "a:b:c"s, "a:.b"s,
        "a:-b"s, "a:b/c"s, "ä"s,  "a\n"s, "a\0b"s, "a:b\0"s, "a@b"s}) {
    EXPECT_EQ(ParseImageName(text).status().code(), StatusCode::kInvalidArgument) << text;
  }
  EXPECT_TRUE(ParseImageName("a:_b").ok()) << "tags may start with an underscore";
}

TEST(ParseImageName, ErrorsAreOneShortPrintableLine) {
  const std::string text = "Bad\n\x1b[31m\x7f" + std::string(10'000, 'x');
  const std::string message(ParseImageName(text).status().message());
  EXPECT_LT(message.size(), 300u);
  for (const char c : message) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << message;
  EXPECT_NE(message.find("\\x0a\\x1b"), std::string::npos) << message;
}

TEST(ValidateDeviceName, TakesNamesAndNoTags) {
  EXPECT_TRUE(ValidateDeviceName("web-1.blue_2").ok());
  EXPECT_TRUE(ValidateDeviceName(std::string(128, '9')).ok());
  for (const char* const text : {"", ".", "..", "a:b", "a/b", "Web", "-"}) {
    EXPECT_EQ(ValidateDeviceName(text).code(), StatusCode::kInvalidArgument) << text;
  }
  EXPECT_FALSE(ValidateDeviceName(std::string(10'000, 'a')).ok());
}

TEST(Quoted, ShortensAndMakesControlCharactersVisible) {
  EXPECT_EQ(Quoted("plain"), "\"plain\"");
  EXPECT_EQ(Quoted(std::string("a\0b", 3)), "\"a\\x00b\"");
  EXPECT_EQ(Quoted(std::string(60, 'a')), "\"" + std::string(60, 'a') + "\"");
  EXPECT_EQ(Quoted(std::string(61, 'a')), "\"" + std::string(60, 'a') + "\"...");
}

}  // namespace
}  // namespace cowl
