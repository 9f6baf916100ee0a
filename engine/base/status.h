// status.h: operating errors as absl::Status, and the macros that pass them on.
// Errors from the kernel become a Status that says which operation failed, where, and why; the
// table from errno to code stands in status.cc and in docs/errors.md. Bugs are not errors:
// COWL_CHECK ends the process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace cowl {

// Debian's Abseil has a string_view of its own; this is the one place that converts.
inline absl::string_view Absl(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view Std(absl::string_view text) { return {text.data(), text.size()}; }
inline std::string Message(const absl::Status& status) { return std::string(status.message()); }

// "OPERATION WHERE: strerror". `error_number` is a positive errno value.
absl::Status ErrnoStatus(int error_number, std::string_view operation, std::string_view where);

// The errno that made `status` (kept as a payload), else the nearest one for its code; 0 for OK.
// The table is in docs/errors.md.
int StatusErrno(const absl::Status& status);

// The same status with "CONTEXT: " before its message.
absl::Status Annotate(const absl::Status& status, std::string_view context);

// One-argument makers that take std::string (absl's take its own string_view).
inline absl::Status InvalidArgument(const std::string& m) { return absl::InvalidArgumentError(m); }
inline absl::Status NotFound(const std::string& m) { return absl::NotFoundError(m); }
inline absl::Status AlreadyExists(const std::string& m) { return absl::AlreadyExistsError(m); }
inline absl::Status FailedPrecondition(const std::string& m) {
  return absl::FailedPreconditionError(m);
}
inline absl::Status DataLoss(const std::string& m) { return absl::DataLossError(m); }
inline absl::Status Internal(const std::string& m) { return absl::InternalError(m); }
inline absl::Status Unavailable(const std::string& m) { return absl::UnavailableError(m); }
inline absl::Status OutOfSpace(const std::string& m) { return absl::ResourceExhaustedError(m); }
inline absl::Status Unimplemented(const std::string& m) { return absl::UnimplementedError(m); }

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line);

}  // namespace cowl

#define COWL_CHECK(condition) \
  ((condition) ? void(0) : ::cowl::CheckFailed(#condition, __FILE__, __LINE__))

#define COWL_CONCAT_INNER(a, b) a##b
#define COWL_CONCAT(a, b) COWL_CONCAT_INNER(a, b)

// In functions.
#define COWL_RETURN_IF_ERROR(expression)       \
  do {                                         \
    absl::Status cowl_status = (expression);   \
    if (!cowl_status.ok()) return cowl_status; \
  } while (0)
#define COWL_ASSIGN_OR_RETURN(declaration, expression) \
  COWL_ASSIGN_OR_RETURN_AS(COWL_CONCAT(cowl_or_, __COUNTER__), declaration, expression)
#define COWL_ASSIGN_OR_RETURN_AS(result, declaration, expression) \
  auto result = (expression);                                     \
  if (!result.ok()) return result.status();                       \
  declaration = *std::move(result)

// In coroutines. `expression` may hold co_await.
#define COWL_CO_RETURN_IF_ERROR(expression)       \
  do {                                            \
    absl::Status cowl_status = (expression);      \
    if (!cowl_status.ok()) co_return cowl_status; \
  } while (0)
