// Where warnings go.
#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>

namespace cowl {
namespace {

using testing::HasSubstr;

TEST(LogTest, GoesToStderrUntilTheProgramChooses) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Log().warn("the disk is {}", "full");
  Log().flush();
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("the disk is full"));
}

TEST(LogTest, GoesWhereTheProgramChose) {
  std::ostringstream text;
  const auto sink = std::make_shared<spdlog::sinks::ostream_sink_mt>(text);
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("mine", sink));
  Log().warn("the disk is {}", "full");
  Log().flush();
  spdlog::set_default_logger(before);
  EXPECT_THAT(text.str(), HasSubstr("the disk is full"));
}

}  // namespace
}  // namespace cowl
