// memory_server: the NBD server over disks in memory. The protocol tests run real clients against
// it; it is also the ceiling that benchmarks of the engine have.
//
//   memory_server [--io uring|sync] [--threads N] [--size MIB] [--max-connections N]
//                 [--max-inflight N] [--handshake-timeout SECONDS] [--stdio NAME]
//                 [--listen SPEC]...
//
// Prints one URI a listener, then nothing. SIGTERM drains.
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/units.h"
#include "memory_exports.h"
#include "nbd/server.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace cowl {
namespace {

struct Flags {
  ServerOptions server;
  int threads = 2;
  uint64_t size_mib = 64;
  std::string stdio;
  std::vector<std::string> listen;
};

[[noreturn]] void Fail(const std::string& message, int status) {
  std::fprintf(stderr, "memory_server: %s\n", message.c_str());
  std::exit(status);
}

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (++i == argc) Fail(name + " needs a value", 2);
    const std::string value = argv[i];
    if (name == "--io") {
      flags.server.io = value == "sync" ? IoBackend::kSync : IoBackend::kUring;
    } else if (name == "--threads") {
      flags.threads = std::atoi(value.c_str());
    } else if (name == "--size") {
      flags.size_mib = std::strtoull(value.c_str(), nullptr, 10);
    } else if (name == "--max-connections") {
      flags.server.connections_max = std::strtoull(value.c_str(), nullptr, 10);
    } else if (name == "--handshake-timeout") {
      flags.server.handshake_timeout = std::chrono::seconds(std::atoi(value.c_str()));
    } else if (name == "--max-inflight") {
      flags.server.session.inflight_max = std::strtoull(value.c_str(), nullptr, 10);
    } else if (name == "--stdio") {
      flags.stdio = value;
    } else if (name == "--listen") {
      flags.listen.push_back(value);
    } else {
      Fail("unknown option " + name, 2);
    }
  }
  return flags;
}

// Bytes that tell where they are from, with a hole of `hole_bytes` after each `data_bytes`.
std::unique_ptr<MemoryDevice> Patterned(uint64_t size_bytes, uint64_t data_bytes,
                                        uint64_t hole_bytes, bool read_only) {
  auto device = std::make_unique<MemoryDevice>(size_bytes, read_only);
  for (uint64_t i = 0; i < size_bytes; ++i) {
    const bool is_data = i % (data_bytes + hole_bytes) < data_bytes;
    if (is_data) device->bytes()[i] = static_cast<std::byte>(1 + (i * 2654435761u >> 13) % 255);
  }
  return device;
}

void AddDisks(MemoryExports& exports, const Flags& flags) {
  exports.Add("disk", "an empty disk", std::make_unique<MemoryDevice>(flags.size_mib * kMiB));
  exports.Add("disk2", "", std::make_unique<MemoryDevice>(flags.size_mib * kMiB));
  exports.Add("image:latest", "a disk that stays as it is", Patterned(16 * kMiB, kMiB, kMiB, true));
  exports.Add("odd", "ends in the middle of a block",
              Patterned(kMiB + 512, 64 * kKiB, 64 * kKiB, false));
  exports.Add("odder", "ends in the middle of a sector",
              Patterned(kMiB + 777, 64 * kKiB, 64 * kKiB, false));
  exports.Add("tiny", "one sector", std::make_unique<MemoryDevice>(512));
  exports.SetDefault("disk");
}

int Main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  spdlog::set_default_logger(spdlog::stderr_logger_mt("memory_server"));
  spdlog::set_level(std::getenv("DEBUG") != nullptr ? spdlog::level::debug : spdlog::level::warn);
  // Blocked before any thread starts, so that all inherit it and sigwait below is the one place
  // that sees them.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  auto exports = MemoryExports::Make(flags.server.io, flags.threads);
  if (!exports.ok()) Fail(Message(exports.status()), 1);
  AddDisks(**exports, flags);
  if (!flags.stdio.empty()) (*exports)->SetDefault(flags.stdio);
  auto server = NbdServer::Start(flags.server, **exports);
  if (!server.ok()) Fail(Message(server.status()), 1);
  auto uris = (*server)->ListenActivated();
  if (!uris.ok()) Fail(Message(uris.status()), 1);
  for (const std::string& spec : flags.listen) {
    auto uri = (*server)->Listen(spec);
    if (!uri.ok()) Fail(Message(uri.status()), 1);
    uris->push_back(*uri);
  }
  if (!flags.stdio.empty()) {
    const absl::Status status = (*server)->ServeStream(UniqueFd(0), UniqueFd(1));
    if (!status.ok()) Fail(Message(status), 1);
    return 0;
  }
  for (const std::string& uri : *uris) std::printf("%s\n", uri.c_str());
  std::fflush(stdout);
  int caught;
  sigwait(&signals, &caught);
  const absl::Status drained = (*server)->Drain(std::chrono::seconds(10));
  if (!drained.ok()) Fail(Message(drained), 1);
  return 0;
}

}  // namespace
}  // namespace cowl

int main(int argc, char** argv) { return cowl::Main(argc, argv); }
