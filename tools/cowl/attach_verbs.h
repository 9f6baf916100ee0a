// attach_verbs.h: attaching, as attach, create --attach and run do it.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "attach/attach.h"
#include "control/json.h"
#include "tools/cowl/invocation.h"

namespace cowl {

// What `name` means: the canonical name (NAME:TAG of an image), whether it is an image, its size.
struct Subject {
  std::string name;
  bool is_image = false;
  uint64_t size_bytes = 0;
};
absl::StatusOr<Subject> FindSubject(const Invocation& invocation, const std::string& name);

// AlreadyExists, with the path, when `name` is attached.
absl::Status RefuseAttached(const std::string& store, const std::string& name);

// Attaches through the server that runs and is held by the caller.
absl::StatusOr<Attachment> AttachSubject(const Invocation& invocation, const Subject& subject,
                                         const std::string& mount, bool read_only);

// The whole of `cowl attach`: the document with `device` and `mount`.
absl::StatusOr<Json> AttachAsAsked(const Invocation& invocation, const std::string& name,
                                   const std::string& mount, bool read_only);

}  // namespace cowl
