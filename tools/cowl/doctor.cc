// doctor: what this host can do, and what crashes left of a store.
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "attach/attach.h"
#include "base/size_text.h"
#include "base/status.h"
#include "control/control_client.h"
#include "control/version.h"
#include "io/limits.h"
#include "io/socket.h"
#include "store/staging.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

using Checks = std::vector<DoctorCheck>;

DoctorCheck Found(const std::string& name, const absl::Status& status, const std::string& fine) {
  return {name, status.ok(), status.ok() ? fine : Message(status)};
}

void CheckRings(Checks& checks) {
  checks.push_back(Found("io_uring", MakeIoLoop(IoBackend::kUring).status(), "rings can be made"));
  const auto files_max = RaiseOpenFileLimit();
  const bool is_enough = files_max.ok() && *files_max >= 4096;
  checks.push_back(
      {"open files", is_enough,
       files_max.ok()
           ? absl::StrCat(
                 "a process may open ", *files_max,
                 is_enough ? "" : ": raise the hard limit (ulimit -Hn) to serve many devices")
           : Message(files_max.status())});
}

bool IsStore(const std::string& directory) {
  struct stat found {};
  return ::stat((directory + "/catalog.db").c_str(), &found) == 0;
}

void CheckServer(const std::string& store, Checks& checks) {
  const auto client = ControlClient::Connect(store, ProgramVersion());
  if (!client.ok()) {
    checks.push_back({"server", false, Message(client.status())});
  } else if (*client) {
    checks.push_back(
        {"server", true, absl::StrCat("process ", (**client).server_pid(), " serves the store")});
  } else {
    checks.push_back({"server", true, "none runs"});
  }
}

// Of a server that died this is all that shows: what uses the device waits.
absl::Status CheckAttached(const std::string& store, Checks& checks) {
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(store));
  for (const auto& [name, attachment] : attached) {
    const absl::Status served = CheckServed(attachment);
    const std::string advice =
        absl::IsAborted(served)
            ? absl::StrCat("cowl detach --force ", name, ", and attach it again")
            : absl::StrCat("cowl serve, or cowl detach ", name);
    checks.push_back(
        {"attached", served.ok(),
         served.ok() ? absl::StrCat(name, " is served, and attached ", WhereAttached(attachment))
                     : absl::StrCat(name, " is attached at ", Message(served), ": ", advice)});
  }
  return absl::OkStatus();
}

// What imports that were killed left.
void CheckFiles(const std::string& store, bool fix, Checks& checks) {
  const Abandoned files = fix ? RemoveAbandoned(store) : FindAbandoned(store);
  if (files.file_count == 0) return;
  const std::string what =
      absl::StrCat(files.file_count, " files of killed imports, ", FormatBytes(files.disk_bytes));
  checks.push_back(
      {"leftover", fix, fix ? "removed " + what : what + ": cowl doctor --fix, or cowl gc"});
}

absl::Status CheckLeftovers(const std::string& store, bool fix, Checks& checks) {
  if (fix) {
    COWL_ASSIGN_OR_RETURN(const auto done, CleanStale(store));
    for (const std::string& line : done) checks.push_back({"leftover", true, line});
  }
  CheckFiles(store, fix, checks);
  const auto stale = FindStale(store);
  COWL_RETURN_IF_ERROR(stale.status());
  for (const std::string& line : *stale)
    checks.push_back({"leftover", false, absl::StrCat(line, ": cowl doctor --fix")});
  if (stale->empty() && !fix)
    checks.push_back({"leftovers", true, "no attachment was left half made"});
  return absl::OkStatus();
}

}  // namespace

absl::Status RunDoctor(const Invocation& invocation, Output& output) {
  Checks checks;
  CheckRings(checks);
  for (DoctorCheck& check : CheckHost()) checks.push_back(std::move(check));
  if (IsStore(invocation.store)) {
    checks.push_back({"store", true, invocation.store});
    CheckServer(invocation.store, checks);
    COWL_RETURN_IF_ERROR(CheckAttached(invocation.store, checks));
    COWL_RETURN_IF_ERROR(CheckLeftovers(invocation.store, invocation.Has("--fix"), checks));
  } else {
    checks.push_back(
        {"store", false,
         absl::StrCat("there is none at ", invocation.store, ": make one with cowl init")});
  }
  Table table({{"CHECK"}, {"OK"}, {"FOUND"}});
  Json list = Json::array();
  for (const DoctorCheck& check : checks) {
    table.Add({check.name, check.ok ? "yes" : "no", check.message});
    list.push_back(
        Json::object({{"name", check.name}, {"ok", check.ok}, {"message", check.message}}));
  }
  PrintResult(output, Json::object({{"checks", list}}), table.Text());
  return absl::OkStatus();
}

}  // namespace cowl
