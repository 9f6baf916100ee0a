// export: reads a frozen state in this process, outside the store's lock.
#include "image/export.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "tools/cowl/call.h"
#include "tools/cowl/frozen.h"
#include "tools/cowl/interrupt.h"
#include "tools/cowl/progress_bar.h"
#include "tools/cowl/verbs.h"

namespace cowl {

absl::Status CheckExport(const Invocation& invocation) {
  if (invocation.Text("FILE") != "-") return absl::OkStatus();
  if (invocation.Text("--format") == "qcow2")
    return InvalidArgument("FILE - goes with --format raw alone: name a file");
  if (invocation.json)
    return InvalidArgument("FILE - and --json both want standard output: name a file");
  return absl::OkStatus();
}

absl::Status RunExport(const Invocation& invocation, Output& output) {
  CatchInterrupts();
  ExportOptions options;
  options.path = invocation.Text("FILE");
  options.format =
      invocation.Text("--format") == "qcow2" ? ExportFormat::kQcow2 : ExportFormat::kRaw;
  options.force = invocation.force;
  std::error_code error;
  if (options.path != "-" && !options.force && std::filesystem::exists(options.path, error)) {
    return AlreadyExists(
        absl::StrCat("file ", options.path, " exists: use --force to replace it, or another name"));
  }
  COWL_ASSIGN_OR_RETURN(const FrozenLease lease,
                        FrozenLease::Take(invocation, invocation.Text("NAME")));
  options.view = lease.view();
  ProgressBar bar("export", output.quiet());
  options.progress = bar.Callback();
  COWL_RETURN_IF_ERROR(Export(options));
  Json document;
  document["name"] = invocation.Text("NAME");
  document["size_bytes"] = options.view.size_bytes;
  if (options.path != "-") PrintResult(output, document, "");
  return absl::OkStatus();
}

}  // namespace cowl
