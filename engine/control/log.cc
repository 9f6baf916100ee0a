#include "control/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace cowl {
namespace {

void LogToStderr(const char* pattern, spdlog::level::level_enum level) {
  auto logger =
      std::make_shared<spdlog::logger>("cowl", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern(pattern);
  logger->set_level(level);
  logger->flush_on(level);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace

void LogForCommands() { LogToStderr("cowl: %l: %v", spdlog::level::warn); }
void LogForServers() { LogToStderr("%Y-%m-%dT%H:%M:%S.%e %l: %v", spdlog::level::info); }

}  // namespace cowl
