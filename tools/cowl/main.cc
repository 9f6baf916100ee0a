// cowl: the command line. What can be typed stands in verbs.cc; what runs it in the files named
// after the verbs.
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string_view>

#include "attach/attach.h"
#include "base/status.h"
#include "control/log.h"
#include "control/version.h"
#include "tools/cowl/call.h"
#include "tools/cowl/help_text.h"
#include "tools/cowl/interrupt.h"
#include "tools/cowl/output.h"
#include "tools/cowl/parse.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr int kFailed = 1;
constexpr int kWrongUsage = 2;
constexpr int kRunFailed = 125;  // of `run`, whose other statuses are COMMAND's

bool Is(const Invocation& invocation, std::string_view name) {
  return invocation.verb != nullptr && invocation.verb->name == name;
}

int Fail(const Invocation& invocation, const absl::Status& status) {
  PrintError(invocation.verb->name, Message(status));
  if (absl::IsCancelled(status)) DieOfInterrupt();
  return Is(invocation, "run") ? kRunFailed : kFailed;
}

int FailUsage(const Invocation& invocation, const absl::Status& status) {
  const Verb* verb = invocation.verb;
  const std::string see =
      verb == nullptr ? ": see cowl help" : std::string(": see cowl help ") + verb->name;
  PrintError(verb == nullptr ? "" : verb->name, Message(status) + see);
  return Is(invocation, "check") ? kFailed : kWrongUsage;
}

int PrintAndEnd(const Invocation& invocation, std::string_view text) {
  static const Verb kNone{};
  Invocation any = invocation;
  if (any.verb == nullptr) any.verb = &kNone;
  Output output(any);
  output.Print(text);
  const absl::Status status = output.Flush();
  if (status.ok()) return 0;
  PrintError(invocation.verb == nullptr ? "" : invocation.verb->name, Message(status));
  return kFailed;
}

int RunVerb(Invocation& invocation) {
  auto store = FindStoreDirectory(invocation);
  if (!store.ok()) return Fail(invocation, store.status());
  invocation.store = *std::move(store);
  Output output(invocation);
  absl::Status status = invocation.verb->run(invocation, output);
  if (status.ok()) status = output.Flush();
  return status.ok() ? output.exit_status : Fail(invocation, status);
}

int Main(int argc, char** argv) {
  SecureStandardStreams();
  LogForCommands();
  ::signal(SIGPIPE, SIG_IGN);
  Parsed parsed =
      ParseCommandLine(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
  Invocation& invocation = parsed.invocation;
  if (parsed.help) {
    return PrintAndEnd(invocation,
                       invocation.verb == nullptr ? HelpOverview() : HelpOf(*invocation.verb));
  }
  if (parsed.version) return PrintAndEnd(invocation, "cowl " + ProgramVersion() + "\n");
  if (!parsed.usage.ok()) return FailUsage(invocation, parsed.usage);
  return RunVerb(invocation);
}

}  // namespace
}  // namespace cowl

int main(int argc, char** argv) {
  // Started as /proc/self/exe it would be "exe" in ps and in messages about who has a store.
  ::prctl(PR_SET_NAME, "cowl");
  if (argc > 1 && std::string_view(argv[1]) == cowl::kFuseServeVerb)
    return cowl::FuseServeMain(argc, argv);
  return cowl::Main(argc, argv);
}
