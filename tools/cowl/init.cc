#include <nlohmann/json.hpp>

#include "base/status.h"
#include "cowl/store.h"
#include "tools/cowl/call.h"
#include "tools/cowl/verbs.h"

namespace cowl {

absl::Status RunInit(const Invocation& invocation, Output& output) {
  COWL_RETURN_IF_ERROR(Store::Init(invocation.store));
  PrintResult(output, Json::object({{"store", invocation.store}}), "");
  return absl::OkStatus();
}

}  // namespace cowl
