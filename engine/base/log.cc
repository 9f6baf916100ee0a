#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

namespace cowl {

spdlog::logger& Log() {
  static spdlog::logger on_stderr("cowl", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  spdlog::logger* const chosen = spdlog::default_logger_raw();
  return chosen->name().empty() ? on_stderr : *chosen;  // the one that spdlog brings has no name
}

}  // namespace cowl
