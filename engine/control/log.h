// log.h: where warnings of the engine go: stderr, since results belong to stdout.
#pragma once

namespace cowl {

// For commands: warnings as "cowl: warning: ...".
void LogForCommands();
// For servers: with time and level.
void LogForServers();

}  // namespace cowl
