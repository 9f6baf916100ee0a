// attach and detach.
#include "tools/cowl/attach_verbs.h"

#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/held_server.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

absl::Status NeedRoot() {
  if (::geteuid() == 0) return absl::OkStatus();
  return absl::PermissionDeniedError("kernel block devices and mounts need root: run it with sudo");
}

absl::StatusOr<std::string> MountDirectory(const std::string& mount) {
  if (mount.empty()) return std::string();
  std::error_code error;
  const auto path = std::filesystem::absolute(mount, error);
  if (error || !std::filesystem::is_directory(path, error)) {
    return NotFound(absl::StrCat("mount point ", mount, " is no directory: make an empty one"));
  }
  if (!std::filesystem::is_empty(path, error) || error) {
    return FailedPrecondition(
        absl::StrCat("mount point ", mount, " is not empty: name an empty directory"));
  }
  const auto real = std::filesystem::canonical(path, error);
  return error ? path.string() : real.string();
}

}  // namespace

absl::Status RefuseAttached(const std::string& store, const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(store));
  const auto found = attached.find(name);
  if (found == attached.end()) return absl::OkStatus();
  return AlreadyExists(
      absl::StrCat(Quoted(name), " is attached already, ", WhereAttached(found->second)));
}

absl::StatusOr<Subject> FindSubject(const Invocation& invocation, const std::string& name) {
  COWL_ASSIGN_OR_RETURN(const Json found,
                        Call(invocation, "inspect", Json::object({{"name", name}})));
  Subject subject;
  subject.is_image = TextOr(found, "kind", "") == "image";
  subject.name = TextOr(found, "name", name);
  subject.size_bytes = NumberOr(found, "size_bytes", 0);
  return subject;
}

absl::StatusOr<Attachment> AttachSubject(const Invocation& invocation, const Subject& subject,
                                         const std::string& mount, bool read_only) {
  COWL_ASSIGN_OR_RETURN(const ServedAt at, WhereServed(invocation.store, subject.name));
  if (at.unix_path.empty()) {
    return FailedPrecondition(absl::StrCat(
        "the server of store ", invocation.store,
        " listens on no unix socket, which attaching needs: start it with --listen unix:PATH"));
  }
  AttachRequest request;
  request.store_dir = invocation.store;
  request.name = subject.name;
  request.socket_path = at.unix_path;
  request.read_only = read_only || subject.is_image;
  COWL_ASSIGN_OR_RETURN(request.mount_dir, MountDirectory(mount));
  request.size_bytes = subject.size_bytes;
  return Attach(request);
}

absl::StatusOr<Json> AttachAsAsked(const Invocation& invocation, const std::string& name,
                                   const std::string& mount, bool read_only) {
  COWL_RETURN_IF_ERROR(NeedRoot());
  COWL_ASSIGN_OR_RETURN(const Subject subject, FindSubject(invocation, name));
  // First: what is mounted there may be this very device.
  COWL_RETURN_IF_ERROR(RefuseAttached(invocation.store, subject.name));
  COWL_RETURN_IF_ERROR(MountDirectory(mount).status());
  COWL_ASSIGN_OR_RETURN(HeldServer server, HeldServer::Hold(invocation.store));
  const auto attached = AttachSubject(invocation, subject, mount, read_only);
  const absl::Status let_go = server.End();
  COWL_RETURN_IF_ERROR(attached.status());
  COWL_RETURN_IF_ERROR(let_go);
  Json document;
  document["device"] = attached->device;
  document["mount"] = attached->mount.empty() ? Json(nullptr) : Json(attached->mount);
  return document;
}

absl::Status RunAttach(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(const Json document,
                        AttachAsAsked(invocation, invocation.Text("NAME"),
                                      invocation.Text("--mount"), invocation.Has("--read-only")));
  PrintResult(output, document, TextOr(document, "device", "") + "\n");
  return absl::OkStatus();
}

absl::Status RunDetach(const Invocation& invocation, Output& output) {
  COWL_RETURN_IF_ERROR(NeedRoot());
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(invocation.store));
  std::string name = invocation.Text("NAME");
  if (!attached.contains(name)) name = WholeImageName(name);
  if (!attached.contains(name)) {
    // Unknown to the store, or known and not attached: two different mistakes.
    COWL_RETURN_IF_ERROR(FindSubject(invocation, invocation.Text("NAME")).status());
    return NotFound(absl::StrCat(Quoted(invocation.Text("NAME")), " is not attached: see cowl ls"));
  }
  COWL_RETURN_IF_ERROR(DetachAndLetGo(invocation.store, name, invocation.force));
  PrintResult(output, Json::object(), "");
  return absl::OkStatus();
}

}  // namespace cowl
