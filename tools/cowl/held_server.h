// held_server.h: a server for as long as somebody needs it: the one that runs, else one that is
// started in the background and ends when nobody holds it and nothing is attached. Ownership: End,
// or the destructor, lets go; a process that is killed lets go, too.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "control/control_client.h"

namespace cowl {

class HeldServer {
 public:
  // `sockets`: where one that is started listens; none: where servers do by default.
  static absl::StatusOr<HeldServer> Hold(const std::string& store,
                                         const std::set<std::string>& sockets = {});
  // The one that runs, if one does; starts none.
  static absl::StatusOr<std::optional<HeldServer>> HoldRunning(const std::string& store);

  // Lets go; when the server ends with that, waits until it is gone.
  absl::Status End();

 private:
  explicit HeldServer(ControlClient client) : client_(std::move(client)) {}
  ControlClient client_;
};

struct ServedAt {
  std::vector<std::string> uris;  // of the one that was asked for
  std::string unix_path;          // of a unix listener; empty: it has none
};

absl::StatusOr<ServedAt> WhereServed(const std::string& store, const std::string& name);

}  // namespace cowl
