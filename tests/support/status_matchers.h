// status_matchers.h: EXPECT_OK, ASSERT_OK, IsCode(...) for absl::Status and absl::StatusOr.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

MATCHER(IsOk, "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return arg.ok();
}
MATCHER_P(IsCode, code, "has code " + absl::StatusCodeToString(code)) {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code;
}
MATCHER_P(SaysThat, text, std::string("has a message with \"") + text + "\"") {
  *result_listener << StatusOf(arg).ToString();
  return std::string(StatusOf(arg).message()).find(text) != std::string::npos;
}

}  // namespace cowl

#define EXPECT_OK(expression) EXPECT_THAT(expression, ::cowl::IsOk())
#define ASSERT_OK(expression) ASSERT_THAT(expression, ::cowl::IsOk())
