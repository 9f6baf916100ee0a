#include "control/execute.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "control/commands.h"
#include "control/control_client.h"
#include "control/session.h"
#include "control/version.h"

namespace cowl {
namespace {

constexpr int kGoneTimeoutMs = 10'000;
// Many short commands side by side, one after the other.
constexpr std::chrono::seconds kOthersCommandsPatience{5};

// nullopt: no server, or one that ended without having begun with this, or that gave it up to end:
// what is given up leaves nothing behind.
absl::StatusOr<std::optional<Json>> TryServer(const ExecuteTarget& target, const std::string& verb,
                                              const Json& args, std::span<const int> fds,
                                              const Progress& progress) {
  COWL_ASSIGN_OR_RETURN(auto client, ControlClient::Connect(target.directory, ProgramVersion()));
  if (!client) return std::optional<Json>();
  auto value = client->Call(verb, args, fds, progress, target.interrupted);
  const bool never_begun = absl::IsUnavailable(value.status()) && !client->has_begun();
  const bool given_up =
      absl::IsCancelled(value.status()) && !(target.interrupted && target.interrupted());
  if ((never_begun || given_up) && client->WaitGone(kGoneTimeoutMs)) return std::optional<Json>();
  COWL_RETURN_IF_ERROR(value.status());
  return std::optional<Json>(*std::move(value));
}

absl::StatusOr<std::unique_ptr<Store>> OpenHere(const ExecuteTarget& target, bool reads_only) {
  StoreOptions options;
  // One short command: a loop's thread and no ring, so that it also works where the host forbids
  // io_uring.
  options.threads = 1;
  options.io = "sync";
  options.read_only = reads_only;
  return Store::Open(target.directory, options);
}

absl::StatusOr<Json> RunHere(Store& store, const ExecuteTarget& target, const std::string& verb,
                             const Json& args, std::span<const int> fds, const Progress& progress) {
  Session session;
  for (const int fd : fds) session.fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  session.progress = [&](uint64_t done, uint64_t total) {
    if (target.interrupted && target.interrupted()) return false;
    return !progress || progress(done, total);
  };
  return RunCommand(store, /*server=*/nullptr, verb, args, session);
}

}  // namespace

absl::StatusOr<Json> Execute(const ExecuteTarget& target, const std::string& verb, const Json& args,
                             std::span<const int> fds, const Progress& progress) {
  const auto give_up = std::chrono::steady_clock::now() + kOthersCommandsPatience;
  while (true) {
    COWL_ASSIGN_OR_RETURN(auto answered, TryServer(target, verb, args, fds, progress));
    if (answered) return *std::move(answered);
    auto store = OpenHere(target, ReadsOnly(verb, args));
    // A store that cannot be written to still gives its images, and devices that never were
    // written: nobody can remove them meanwhile.
    if (verb == "freeze" && absl::IsPermissionDenied(store.status()))
      store = OpenHere(target, true);
    if (store.ok()) return RunHere(**store, target, verb, args, fds, progress);
    // Open elsewhere: by another command like this one, or by a server that may listen by now.
    const bool is_over = std::chrono::steady_clock::now() >= give_up;
    if (!absl::IsUnavailable(store.status()) || is_over) return store.status();
  }
}

}  // namespace cowl
