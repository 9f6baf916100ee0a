// attach_tool: the calls of attach.h on the command line, so that tests can attach the exports of
// any NBD server. attach_tool attach STORE NAME SOCKET EXPORT [key=value...]    keys: mount,
// read_only, loop, timeout, connections attach_tool
// detach|force-detach|resize|reattach|clean|stale|list|doctor STORE [NAME [SIZE]]
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "attach/attach.h"
#include "base/status.h"

namespace {

using cowl::Attachment;

int Print(const absl::Status& status) {
  if (status.ok()) return 0;
  std::fprintf(stderr, "attach_tool: %s\n", cowl::Message(status).c_str());
  return 1;
}

int PrintLines(const absl::StatusOr<std::vector<std::string>>& lines) {
  if (!lines.ok()) return Print(lines.status());
  for (const std::string& line : *lines) std::printf("%s\n", line.c_str());
  return 0;
}

int RunAttach(const std::vector<std::string>& words) {
  cowl::AttachRequest request;
  request.store_dir = words.at(1);
  request.name = words.at(2);
  request.socket_path = words.at(3);
  request.export_name = words.at(4);
  for (size_t i = 5; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    const std::string key = words[i].substr(0, equals);
    const std::string value = words[i].substr(equals + 1);
    if (key == "mount") request.mount_dir = value;
    if (key == "read_only") request.read_only = value == "1";
    if (key == "loop") request.force_loop = value == "1";
    if (key == "timeout")
      request.dead_server_timeout_s = static_cast<uint32_t>(std::atoi(value.c_str()));
    if (key == "connections") request.connections = std::atoi(value.c_str());
  }
  const absl::StatusOr<Attachment> attachment = cowl::Attach(request);
  if (!attachment.ok()) return Print(attachment.status());
  std::printf("%s\n", attachment->device.c_str());
  return 0;
}

int RunList(const std::string& store) {
  const absl::StatusOr<std::vector<Attachment>> attachments = cowl::Attachments(store);
  if (!attachments.ok()) return Print(attachments.status());
  for (const Attachment& a : *attachments) {
    std::printf("%s %s %s %s %llu\n", a.name.c_str(), a.device.c_str(),
                a.mount.empty() ? "-" : a.mount.c_str(),
                a.file_system.empty() ? "-" : a.file_system.c_str(),
                static_cast<unsigned long long>(a.size_bytes));
  }
  return 0;
}

int RunDoctor() {
  for (const cowl::DoctorCheck& check : cowl::CheckHost()) {
    std::printf("%-8s %-4s %s\n", check.name.c_str(), check.ok ? "ok" : "no",
                check.message.c_str());
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == cowl::kFuseServeVerb)
    return cowl::FuseServeMain(argc, argv);
  const std::vector<std::string> words(argv + 1, argv + argc);
  const std::string verb = words.empty() ? "" : words[0];
  if (verb == "attach" && words.size() >= 5) return RunAttach(words);
  if (verb == "doctor") return RunDoctor();
  if (verb == "list" && words.size() == 2) return RunList(words[1]);
  if (verb == "reattach" && words.size() == 2) return Print(cowl::Reattach(words[1]));
  if (verb == "clean" && words.size() == 2) return PrintLines(cowl::CleanStale(words[1]));
  if (verb == "stale" && words.size() == 2) return PrintLines(cowl::FindStale(words[1]));
  if (verb == "detach" && words.size() == 3) return Print(cowl::Detach(words[1], words[2], false));
  if (verb == "force-detach" && words.size() == 3)
    return Print(cowl::Detach(words[1], words[2], true));
  if (verb == "resize" && words.size() == 4) {
    return Print(
        cowl::TellResized(words[1], words[2], std::strtoull(words[3].c_str(), nullptr, 10)));
  }
  std::fprintf(stderr, "attach_tool: see the head of attach_tool.cc\n");
  return 2;
}
