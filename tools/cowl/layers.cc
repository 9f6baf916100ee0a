// snapshot, commit, flatten, rename, tag, rmi.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/interrupt.h"
#include "tools/cowl/progress_bar.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

void PrintImage(Output& output, const Json& document) {
  PrintResult(output, document, TextOr(document, "image", "") + "\n");
}

}  // namespace

absl::Status RunSnapshot(const Invocation& invocation, Output& output) {
  const Json args = {{"device", invocation.Text("DEVICE")},
                     {"image", WholeImageName(invocation.Text("IMAGE"))},
                     {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "snapshot", args));
  PrintImage(output, document);
  return absl::OkStatus();
}

absl::Status RunCommit(const Invocation& invocation, Output& output) {
  const std::string device = invocation.Text("DEVICE");
  const std::string image = WholeImageName(invocation.Text("IMAGE"));
  COWL_RETURN_IF_ERROR(LetGo(invocation.store, device, invocation.force));
  const Json args = {{"device", device}, {"image", image}, {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "commit", args));
  PrintImage(output, document);
  return absl::OkStatus();
}

absl::Status RunFlatten(const Invocation& invocation, Output& output) {
  const Json args = {{"image", WholeImageName(invocation.Text("IMAGE"))},
                     {"new", WholeImageName(invocation.Text("NEW"))},
                     {"force", invocation.force}};
  CatchInterrupts();
  ProgressBar bar("flatten", output.quiet());
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "flatten", args, bar.Callback()));
  PrintImage(output, document);
  return absl::OkStatus();
}

absl::Status RunTag(const Invocation& invocation, Output& output) {
  const Json args = {{"image", WholeImageName(invocation.Text("IMAGE"))},
                     {"new", WholeImageName(invocation.Text("NEW"))},
                     {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "tag", args));
  PrintResult(output, document, "");
  return absl::OkStatus();
}

absl::Status RunRmi(const Invocation& invocation, Output& output) {
  const std::string image = WholeImageName(invocation.Text("IMAGE"));
  COWL_RETURN_IF_ERROR(LetGo(invocation.store, image, invocation.force));
  const Json args = {{"image", image}, {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "rmi", args));
  PrintResult(output, document, "");
  return absl::OkStatus();
}

absl::Status RunRename(const Invocation& invocation, Output& output) {
  // An attachment is known by its name.
  const std::string old_name = invocation.Text("OLD");
  COWL_RETURN_IF_ERROR(LetGo(invocation.store, old_name, /*force=*/false));
  COWL_RETURN_IF_ERROR(LetGo(invocation.store, WholeImageName(old_name), /*force=*/false));
  const Json args = {
      {"old", old_name}, {"new", invocation.Text("NEW")}, {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "rename", args));
  PrintResult(output, document, "");
  return absl::OkStatus();
}

}  // namespace cowl
