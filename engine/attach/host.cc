#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "attach/attach.h"
#include "attach/fuse_loop.h"
#include "attach/nbd_netlink.h"
#include "attach/run_program.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace cowl {
namespace {

DoctorCheck CheckNbd() {
  if (NbdNetlink::Open().ok()) return {"nbd", true, "the kernel's nbd answers by netlink"};
  const absl::StatusOr<ProgramResult> modprobe = RunProgram({"modprobe", "-n", "-q", "nbd"});
  if (modprobe.ok() && modprobe->status == 0)
    return {"nbd", true, "the nbd module is there; attach loads it"};
  return {"nbd", false,
          "this kernel has no nbd module: attach uses FUSE and a loop device, which is slower"};
}

DoctorCheck CheckOpens(const char* name, const char* path, const char* good, const char* bad) {
  const UniqueFd fd(open(path, O_RDWR | O_CLOEXEC));
  if (fd.valid()) return {name, true, good};
  return {name, false, std::string(path) + ": " + std::strerror(errno) + ": " + bad};
}

DoctorCheck CheckMounting() {
  if (geteuid() != 0) return {"mount", false, "attach and --mount need root"};
  if (FindProgram("blkid").empty())
    return {"mount", false, "blkid is not installed: install util-linux for --mount"};
  return {"mount", true, "file systems can be found out and mounted"};
}

}  // namespace

std::vector<DoctorCheck> CheckHost() {
  std::vector<DoctorCheck> checks;
  checks.push_back(CheckNbd());
  checks.push_back(
      CheckOpens("fuse", "/dev/fuse", "FUSE can be used", "load the fuse module, or run as root"));
  checks.push_back(CheckOpens("loop", "/dev/loop-control", "loop devices can be made",
                              "load the loop module, or run as root"));
  checks.push_back(CheckMounting());
  const bool attaches = geteuid() == 0 && (checks[0].ok || (checks[1].ok && checks[2].ok));
  checks.push_back(
      {"attach", attaches,
       attaches ? "devices can be attached" : "no way to attach: see nbd, fuse and loop above"});
  return checks;
}

}  // namespace cowl
