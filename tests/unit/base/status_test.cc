// errno to Status and back: the table of docs/errors.md.
#include "base/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

namespace cowl {
namespace {

using absl::StatusCode;

TEST(ErrnoStatus, EveryErrnoHasItsCodeAndIsKept) {
  const struct {
    int error_number;
    StatusCode code;
  } kTable[] = {
      {ENOENT, StatusCode::kNotFound},
      {EEXIST, StatusCode::kAlreadyExists},
      {EACCES, StatusCode::kPermissionDenied},
      {EPERM, StatusCode::kPermissionDenied},
      {EROFS, StatusCode::kPermissionDenied},
      {ENOSPC, StatusCode::kResourceExhausted},
      {EDQUOT, StatusCode::kResourceExhausted},
      {EMFILE, StatusCode::kResourceExhausted},
      {ENFILE, StatusCode::kResourceExhausted},
      {ENOMEM, StatusCode::kResourceExhausted},
      {EFBIG, StatusCode::kResourceExhausted},
      {EINVAL, StatusCode::kInvalidArgument},
      {ENAMETOOLONG, StatusCode::kInvalidArgument},
      {EBUSY, StatusCode::kFailedPrecondition},
      {ENOTEMPTY, StatusCode::kFailedPrecondition},
      {ENOTDIR, StatusCode::kFailedPrecondition},
      {EISDIR, StatusCode::kFailedPrecondition},
      {ENOSYS, StatusCode::kUnimplemented},
      {EOPNOTSUPP, StatusCode::kUnimplemented},
      {ECONNREFUSED, StatusCode::kUnavailable},
      {ECONNRESET, StatusCode::kUnavailable},
      {EPIPE, StatusCode::kUnavailable},
      {EAGAIN, StatusCode::kUnavailable},
      {ETIMEDOUT, StatusCode::kDeadlineExceeded},
      {ECANCELED, StatusCode::kCancelled},
      {EIO, StatusCode::kInternal},
      {EBADF, StatusCode::kInternal},
  };
  for (const auto& row : kTable) {
    const absl::Status status = ErrnoStatus(row.error_number, "write", "12 bytes of /x");
    EXPECT_EQ(status.code(), row.code) << std::strerror(row.error_number);
    EXPECT_EQ(StatusErrno(status), row.error_number);
    EXPECT_EQ(Message(status),
              std::string("write 12 bytes of /x: ") + std::strerror(row.error_number));
  }
}

TEST(StatusErrno, StatusesThatNeverWereAnErrnoGetTheNearest) {
  EXPECT_EQ(StatusErrno(absl::OkStatus()), 0);
  EXPECT_EQ(StatusErrno(OutOfSpace("full")), ENOSPC);
  EXPECT_EQ(StatusErrno(DataLoss("flipped")), EIO);
  EXPECT_EQ(StatusErrno(Internal("?")), EIO);
  EXPECT_EQ(StatusErrno(InvalidArgument("?")), EINVAL);
  EXPECT_EQ(StatusErrno(Unimplemented("?")), EOPNOTSUPP);
  EXPECT_EQ(StatusErrno(absl::PermissionDeniedError("?")), EPERM);
}

TEST(Annotate, PutsContextInFrontAndKeepsCodeAndErrno) {
  const absl::Status status = Annotate(ErrnoStatus(ENOSPC, "write", "/x"), "device web");
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(StatusErrno(status), ENOSPC);
  EXPECT_EQ(Message(status).find("device web: write /x: "), 0u);
  EXPECT_TRUE(Annotate(absl::OkStatus(), "context").ok());
}

absl::Status FailIf(bool fail) { return fail ? Internal("failed") : absl::OkStatus(); }
absl::StatusOr<int> NumberOr(bool fail) {
  COWL_RETURN_IF_ERROR(FailIf(fail));
  return 7;
}
absl::StatusOr<int> Doubled(bool fail) {
  COWL_ASSIGN_OR_RETURN(const int number, NumberOr(fail));
  return number * 2;
}

TEST(Macros, PassErrorsOnAndValuesThrough) {
  EXPECT_EQ(*Doubled(false), 14);
  EXPECT_EQ(Message(Doubled(true).status()), "failed");
}

TEST(CheckDeathTest, ABugEndsTheProcessAndSaysWhere) {
  EXPECT_DEATH(COWL_CHECK(1 + 1 == 3),
               "a bug: .*status_test.cc:[0-9]+: 1 \\+ 1 == 3 does not hold");
}

}  // namespace
}  // namespace cowl
