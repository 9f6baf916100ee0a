#include "store/owner.h"

#include <unistd.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace cowl {
namespace {

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Field 22 of /proc/PID/stat: when it started, in ticks after boot. Empty: there is no such
// process.
std::string StartOf(const std::string& pid) {
  const std::string line = FirstLine("/proc/" + pid + "/stat");
  const size_t after_name = line.rfind(')');  // the name may hold anything
  if (after_name == std::string::npos) return "";
  const std::vector<std::string> fields =
      absl::StrSplit(line.substr(after_name + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTime = 22 - 3;  // fields are counted from 1, and two stand before
  return fields.size() > kStartTime ? fields[kStartTime] : "";
}

std::string BootId() { return FirstLine("/proc/sys/kernel/random/boot_id"); }

}  // namespace

std::string OwnerOf(int pid) {
  const std::string number = absl::StrCat(pid != 0 ? pid : ::getpid());
  return absl::StrCat(number, " ", StartOf(number), " ", BootId());
}

bool OwnerLives(const std::string& owner) {
  const std::vector<std::string> parts = absl::StrSplit(owner, ' ');
  if (parts.size() != 3) return true;
  return parts[2] == BootId() && !parts[1].empty() && StartOf(parts[0]) == parts[1];
}

}  // namespace cowl
