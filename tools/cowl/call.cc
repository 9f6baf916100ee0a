#include "tools/cowl/call.h"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"
#include "tools/cowl/interrupt.h"

namespace cowl {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::string Home() {
  if (std::string home = Environment("HOME"); !home.empty()) return home;
  const passwd* user = ::getpwuid(::geteuid());
  return user == nullptr ? "" : user->pw_dir;
}

absl::StatusOr<std::string> DefaultStore() {
  if (::geteuid() == 0) return "/var/lib/cowl";
  if (const std::string data = Environment("XDG_DATA_HOME"); data.starts_with('/'))
    return data + "/cowl";
  if (const std::string home = Home(); !home.empty()) return home + "/.local/share/cowl";
  return FailedPrecondition("you have no home directory: name a store with --store or COWL_STORE");
}

}  // namespace

absl::StatusOr<std::string> FindStoreDirectory(const Invocation& invocation) {
  std::string named = invocation.Text("--store");
  if (named.empty()) named = Environment("COWL_STORE");
  if (named.empty()) {
    COWL_ASSIGN_OR_RETURN(named, DefaultStore());
  }
  std::error_code error;
  const auto absolute = std::filesystem::absolute(named, error);
  if (error) return FailedPrecondition(absl::StrCat("store ", named, ": ", error.message()));
  const auto real = std::filesystem::weakly_canonical(absolute, error);
  std::string directory = error ? absolute.lexically_normal().string() : real.string();
  while (directory.size() > 1 && directory.back() == '/') directory.pop_back();
  return directory;
}

absl::StatusOr<Json> Call(const Invocation& invocation, const std::string& verb, const Json& args,
                          const Progress& progress) {
  ExecuteTarget target;
  target.directory = invocation.store;
  target.interrupted = Interrupted;
  return Execute(target, verb, args, {}, progress);
}

void PrintResult(Output& output, const Json& document, const std::string& text) {
  if (output.json()) {
    output.PrintDocument(document);
  } else {
    output.Print(text);
  }
}

std::string WholeImageName(const std::string& text) {
  const auto name = ParseImageName(text);
  return name.ok() ? name->ToString() : text;
}

const Json& ListOf(const Json& document, const char* key) {
  static const Json* const kEmpty = new Json(Json::array());
  const auto found = document.find(key);
  return found != document.end() && found->is_array() ? *found : *kEmpty;
}

}  // namespace cowl
