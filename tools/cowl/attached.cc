#include "tools/cowl/attached.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"
#include "tools/cowl/held_server.h"

namespace cowl {

absl::StatusOr<AttachedMap> ListAttached(const std::string& store) {
  COWL_ASSIGN_OR_RETURN(auto attachments, Attachments(store));
  AttachedMap map;
  for (Attachment& attachment : attachments) {
    const std::string name = attachment.name;
    map.emplace(name, std::move(attachment));
  }
  return map;
}

std::string WhereAttached(const Attachment& attachment) {
  const std::string mounted =
      attachment.mount.empty() ? "" : absl::StrCat(", mounted on ", attachment.mount);
  return absl::StrCat("at ", attachment.device, mounted);
}

namespace {

// The server that runs, else a new one where what is attached looks for it: what is still to be
// written needs one, also after the last one died.
absl::StatusOr<HeldServer> HoldForAttached(const std::string& store) {
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(store));
  std::set<std::string> sockets;
  for (const auto& [name, attachment] : attached) sockets.insert(attachment.socket_path);
  return HeldServer::Hold(store, sockets);
}

}  // namespace

absl::Status DetachAndLetGo(const std::string& store, const std::string& name, bool force) {
  auto server = HoldForAttached(store);
  const absl::Status detached = Detach(store, name, force);
  if (!server.ok())
    return absl::IsUnavailable(detached) ? Annotate(detached, Message(server.status())) : detached;
  const absl::Status let_go = server->End();
  return detached.ok() ? let_go : detached;
}

absl::Status LetGo(const std::string& store, const std::string& name, bool force) {
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(store));
  const auto found = attached.find(name);
  if (found == attached.end()) return absl::OkStatus();
  if (force) return DetachAndLetGo(store, name, /*force=*/true);
  return FailedPrecondition(absl::StrCat(Quoted(name), " is attached ",
                                         WhereAttached(found->second), ": cowl detach ", name,
                                         " first, or use --force"));
}

}  // namespace cowl
