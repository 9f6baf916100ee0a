// log.h: where the engine's warnings go: to spdlog's default logger once the program has set one of
// its own, until then to stderr. spdlog's own choice is stdout, which belongs to a program's
// results, or is the client of a server on stdin and stdout. Threads: any; a program sets its
// logger before it starts others.
#pragma once

#include <spdlog/logger.h>

namespace cowl {

spdlog::logger& Log();

}  // namespace cowl
