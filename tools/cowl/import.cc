// import: the layer file is made in this process, outside the store's lock, and registered where
// the store is open.
#include "image/import.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"
#include "store/staging.h"
#include "tools/cowl/call.h"
#include "tools/cowl/frozen.h"
#include "tools/cowl/interrupt.h"
#include "tools/cowl/progress_bar.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

ImportFormat FormatOf(const std::string& text) {
  if (text == "raw") return ImportFormat::kRaw;
  if (text == "qcow2") return ImportFormat::kQcow2;
  if (text == "dir") return ImportFormat::kDirectory;
  return ImportFormat::kAuto;
}

// Files that root stages in another user's store belong to that user, as the rest of it does.
absl::Status GiveToOwner(const std::string& store, const std::string& path) {
  struct stat owner {};
  if (::geteuid() != 0 || ::stat(store.c_str(), &owner) != 0 || owner.st_uid == 0)
    return absl::OkStatus();
  if (::lchown(path.c_str(), owner.st_uid, owner.st_gid) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, "give to the store's owner", path);
}

ImportOptions OptionsOf(const Invocation& invocation) {
  ImportOptions options;
  options.source.name = invocation.Text("SOURCE");
  options.source.format = FormatOf(invocation.Text("--format"));
  if (invocation.Has("--size")) options.source.size_bytes = invocation.SizeBytes("--size");
  options.created_by = absl::StrCat("cowl import ", invocation.Text("SOURCE"));
  return options;
}

absl::StatusOr<Json> Register(const Invocation& invocation, const ImportResult& staged,
                              const std::string& created_by) {
  COWL_RETURN_IF_ERROR(GiveToOwner(invocation.store, staged.staged_path));
  const Json args = {{"image", WholeImageName(invocation.Text("IMAGE"))},
                     {"path", staged.staged_path},
                     {"parent", staged.parent_id},
                     {"created_by", created_by},
                     {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json image, Call(invocation, "register", args));
  Json document;
  document["image"] = absl::StrCat(TextOr(image, "name", ""), ":", TextOr(image, "tag", ""));
  document["layer_count"] = NumberOr(image, "layer_count", 0);
  document["size_bytes"] = NumberOr(image, "size_bytes", 0);
  document["stored_bytes"] = staged.stored_bytes;  // what this import added
  return document;
}

}  // namespace

absl::Status CheckImport(const Invocation& invocation) {
  if (invocation.Text("SOURCE") == "-") {
    return InvalidArgument("SOURCE - is not supported: name a file, a device or a directory");
  }
  return absl::OkStatus();
}

absl::Status RunImport(const Invocation& invocation, Output& output) {
  const Json free_args = {{"image", WholeImageName(invocation.Text("IMAGE"))},
                          {"force", invocation.force}};
  COWL_RETURN_IF_ERROR(Call(invocation, "check_free", free_args).status());
  CatchInterrupts();
  COWL_ASSIGN_OR_RETURN(const StagedFile file, StagedFile::Make(invocation.store));
  ImportOptions options = OptionsOf(invocation);
  options.staged_path = file.path();
  std::optional<FrozenLease> parent;
  if (invocation.Has("--parent")) {
    COWL_ASSIGN_OR_RETURN(
        parent, FrozenLease::Take(invocation, WholeImageName(invocation.Text("--parent"))));
    options.parent = parent->view();
  }
  ProgressBar bar("import", output.quiet());
  options.progress = bar.Callback();
  COWL_ASSIGN_OR_RETURN(const ImportResult staged, Import(options));
  COWL_ASSIGN_OR_RETURN(const Json document, Register(invocation, staged, options.created_by));
  PrintResult(output, document, TextOr(document, "image", "") + "\n");
  return absl::OkStatus();
}

}  // namespace cowl
