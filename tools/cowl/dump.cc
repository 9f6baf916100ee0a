// dump: any file of a store as text; needs no store, and takes damaged ones.
#include "store/dump.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "base/status.h"
#include "tools/cowl/call.h"
#include "tools/cowl/verbs.h"

namespace cowl {

absl::Status RunDump(const Invocation& invocation, Output& output) {
  std::ostringstream text;
  COWL_RETURN_IF_ERROR(DumpFile(invocation.Text("FILE"), text));
  PrintResult(output, Json::object({{"text", text.str()}}), text.str());
  return absl::OkStatus();
}

}  // namespace cowl
