#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/version.h"
#include "cowl/names.h"
#include "tools/cowl/call.h"
#include "tools/cowl/help_text.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

std::string VerbAsked(const Invocation& invocation) {
  const std::string second = invocation.Text("SUBVERB");
  return second.empty() ? invocation.Text("VERB")
                        : absl::StrCat(invocation.Text("VERB"), " ", second);
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::trunc);
  file << text;
  file.close();
  if (file.fail())
    return FailedPrecondition(
        absl::StrCat("write ", path, ": failed, look at its folder and space"));
  return absl::OkStatus();
}

absl::Status WriteManPages(const std::string& directory) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error)
    return FailedPrecondition(absl::StrCat("make folder ", directory, ": ", error.message()));
  COWL_RETURN_IF_ERROR(WriteText(directory + "/cowl.1", ManOverview()));
  for (const Verb& verb : Verbs()) {
    if (verb.run == nullptr) continue;
    COWL_RETURN_IF_ERROR(WriteText(absl::StrCat(directory, "/", ManName(verb), ".1"), ManOf(verb)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckHelp(const Invocation& invocation) {
  const std::string asked = VerbAsked(invocation);
  if (asked.empty() || FindVerb(asked) != nullptr || asked == "volume") return absl::OkStatus();
  return InvalidArgument(absl::StrCat("there is no verb ", Quoted(asked)));
}

absl::Status RunHelp(const Invocation& invocation, Output& output) {
  if (invocation.Has("--man-pages")) return WriteManPages(invocation.Text("--man-pages"));
  std::string asked = VerbAsked(invocation);
  if (asked == "volume") asked = "volume create";
  const Verb* verb = FindVerb(asked);
  const bool is_man = invocation.Has("--man");
  std::string text;
  if (invocation.Has("--completion")) {
    text = BashCompletion();
  } else if (verb == nullptr) {
    text = is_man ? ManOverview() : HelpOverview();
  } else {
    text = is_man ? ManOf(*verb) : HelpOf(*verb);
  }
  PrintResult(output, Json::object({{"text", text}}), text);
  return absl::OkStatus();
}

absl::Status RunVersion(const Invocation&, Output& output) {
  PrintResult(output, Json::object({{"version", ProgramVersion()}}),
              absl::StrCat("cowl ", ProgramVersion(), "\n"));
  return absl::OkStatus();
}

}  // namespace cowl
