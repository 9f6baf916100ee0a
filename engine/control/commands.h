// commands.h: the one table of commands that need the store open, run wherever it is open: in this
// process or in the server. Arguments and results are JSON; results are the documents of --json
// without their "schema" (docs: README, "JSON"). Threads: as Store; commands may run side by side.
// Errors: those of the store, and InvalidArgument for arguments that lack something (they may come
// over a socket).
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "control/json.h"
#include "control/session.h"
#include "cowl/store.h"

namespace cowl {

// What a command can know of the server around it. Null in a process that only opened the store.
class ServerFacts {
 public:
  virtual ~ServerFacts() = default;
  // Where NAME can be reached: one URI a listener.
  virtual std::vector<std::string> UrisOf(const std::string& name) const = 0;
};

struct CommandContext {
  Store& store;
  const ServerFacts* server;
  const Json& args;
  Session& session;
};

struct Command {
  const char* verb;
  bool reads_only;  // the store may be opened read-only for it
  absl::StatusOr<Json> (*run)(const CommandContext& context);
};

// Null: no such command.
const Command* FindCommand(const std::string& verb);

absl::StatusOr<Json> RunCommand(Store& store, const ServerFacts* server, const std::string& verb,
                                const Json& args, Session& session);

// Whether `verb` with these arguments leaves the store as it is.
bool ReadsOnly(const std::string& verb, const Json& args);

}  // namespace cowl
