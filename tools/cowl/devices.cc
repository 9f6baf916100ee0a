// create, clone, volume create, reset, resize, rm.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "attach/attach.h"
#include "base/status.h"
#include "cowl/names.h"
#include "tools/cowl/attach_verbs.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

void PrintName(Output& output, const Json& document) {
  PrintResult(output, document, TextOr(document, "name", "") + "\n");
}

// Created, but not attached: say so, since the device is there.
absl::Status AttachCreated(const Invocation& invocation, Json document, Output& output) {
  const std::string name = TextOr(document, "name", "");
  auto attached = AttachAsAsked(invocation, name, /*mount=*/"", /*read_only=*/false);
  if (!attached.ok())
    return Annotate(attached.status(), absl::StrCat("device ", name, " was made but not attached"));
  for (const auto& [key, value] : attached->items()) document[key] = value;
  PrintResult(output, document, absl::StrCat(name, "\n", TextOr(document, "device", ""), "\n"));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCreate(const Invocation& invocation) {
  if (!invocation.Has("--empty")) {
    return invocation.Has("IMAGE") ? absl::OkStatus()
                                   : InvalidArgument("IMAGE is missing, or --empty SIZE");
  }
  if (invocation.Has("--size"))
    return InvalidArgument("--empty SIZE and --size do not go together");
  return invocation.Has("IMAGE")
             ? InvalidArgument("--empty SIZE takes the place of IMAGE: only NAME may follow")
             : absl::OkStatus();
}

absl::Status RunCreate(const Invocation& invocation, Output& output) {
  if (invocation.Has("--attach")) COWL_RETURN_IF_ERROR(CheckRoot());
  Json args = {{"name", invocation.Text("NAME")}, {"cap_bytes", invocation.SizeBytes("--cap")}};
  std::string verb = "create";
  if (invocation.Has("--empty")) {
    verb = "create_empty";
    args["size_bytes"] = invocation.SizeBytes("--empty");
  } else {
    args["image"] = WholeImageName(invocation.Text("IMAGE"));
    args["size_bytes"] = invocation.SizeBytes("--size");
  }
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, verb, args));
  if (invocation.Has("--attach")) return AttachCreated(invocation, document, output);
  PrintName(output, document);
  return absl::OkStatus();
}

absl::Status RunClone(const Invocation& invocation, Output& output) {
  const Json args = {{"device", invocation.Text("DEVICE")}, {"name", invocation.Text("NAME")}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "clone", args));
  PrintName(output, document);
  return absl::OkStatus();
}

absl::Status CheckVolumeCreate(const Invocation& invocation) {
  return invocation.Has("--size") ? absl::OkStatus() : InvalidArgument("--size N is missing");
}

absl::Status RunVolumeCreate(const Invocation& invocation, Output& output) {
  const Json args = {{"name", invocation.Text("NAME")},
                     {"size_bytes", invocation.SizeBytes("--size")}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "volume create", args));
  PrintName(output, document);
  return absl::OkStatus();
}

namespace {

absl::Status RunOnIdleDevice(const Invocation& invocation, Output& output) {
  const std::string device = invocation.Text("DEVICE");
  COWL_RETURN_IF_ERROR(LetGo(invocation.store, device, invocation.force));
  const Json args = {{"device", device}, {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, invocation.verb->name, args));
  PrintResult(output, document, "");
  return absl::OkStatus();
}

}  // namespace

absl::Status RunReset(const Invocation& invocation, Output& output) {
  return RunOnIdleDevice(invocation, output);
}
absl::Status RunRm(const Invocation& invocation, Output& output) {
  return RunOnIdleDevice(invocation, output);
}

absl::Status RunResize(const Invocation& invocation, Output& output) {
  const std::string device = invocation.Text("DEVICE");
  const uint64_t size_bytes = invocation.SizeBytes("SIZE");
  const Json args = {{"device", device}, {"size_bytes", size_bytes}, {"force", invocation.force}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "resize", args));
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(invocation.store));
  if (attached.contains(device)) {
    const absl::Status told = TellResized(invocation.store, device, size_bytes);
    if (!told.ok())
      return Annotate(told, "the device was resized, but the kernel did not take over its size");
  }
  PrintResult(output, document, "");
  return absl::OkStatus();
}

}  // namespace cowl
