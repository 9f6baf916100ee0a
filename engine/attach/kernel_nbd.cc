#include "attach/kernel_nbd.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "attach/nbd_client.h"
#include "attach/nbd_netlink.h"
#include "attach/run_program.h"
#include "attach/text_file.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

constexpr int kHandshakeMsMax = 10000;
constexpr int kSettleMsMax = 5000;
constexpr int kDefaultConnections = 2;

// The driver knows one block size, logical and physical in one. 512 it is, for every device: a file
// system or a partition table made with small sectors (the default of every raw disk, and what a
// virtual machine sees) does not mount on larger ones.
constexpr uint64_t kNbdBlockBytes = kSectorBytes;

// Requests that were with a server when it died are sent again only when this is over (measured on
// Linux 6.1: the dead socket by itself moves none of them, and with 0 they wait for ever on a
// device of one connection). Shorter means a shorter stall after a crash, but a request that merely
// takes long must not be sent twice: its late first execution could undo a newer write.
constexpr uint64_t kRequestTimeoutS = 30;

std::string SysFolder(uint32_t index) { return "/sys/block/nbd" + std::to_string(index); }

template <typename Condition>
bool WaitFor(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kSettleMsMax);
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

struct Connections {
  ExportInfo info;
  std::vector<UniqueFd> owned;
  std::vector<int> sockets;
};

absl::StatusOr<Connections> OpenConnections(const Attachment& attachment, int wanted) {
  Connections connections;
  for (int i = 0; i < wanted; ++i) {
    COWL_ASSIGN_OR_RETURN(
        const std::unique_ptr<NbdClient> client,
        NbdClient::Connect(attachment.socket_path, attachment.export_name, kHandshakeMsMax));
    connections.info = client->info();
    if (connections.info.identity != attachment.identity) {
      return FailedPrecondition("export " + attachment.export_name +
                                " is now another disk than the one attached as " +
                                attachment.device + "; detach that with --force");
    }
    COWL_ASSIGN_OR_RETURN(UniqueFd socket, client->TakeSocket());
    connections.sockets.push_back(socket.get());
    connections.owned.push_back(std::move(socket));
  }
  return connections;
}

absl::Status WaitForDevice(const Attachment& attachment) {
  const std::string size_path = SysFolder(attachment.nbd_index) + "/size";
  const std::string sectors = std::to_string(attachment.size_bytes / kSectorBytes);
  const bool ready = WaitFor([&] {
    // The first open makes some kernels publish the size.
    const UniqueFd fd(open(attachment.device.c_str(), O_RDONLY | O_CLOEXEC));
    return fd.valid() && ReadLine(size_path) == sectors;
  });
  if (ready) return absl::OkStatus();
  return Unavailable(attachment.device +
                     " did not become usable: see that /dev holds the kernel's devices");
}

}  // namespace

absl::Status PrepareNbd() {
  if (NbdNetlink::Open().ok()) return absl::OkStatus();
  const absl::StatusOr<ProgramResult> modprobe = RunProgram({"modprobe", "-q", "nbd"});
  const absl::Status status = NbdNetlink::Open().status();
  if (status.ok()) return status;
  const bool loaded = modprobe.ok() && modprobe->status == 0;
  return Unavailable(
      loaded
          ? "the nbd module is loaded but cannot be reached from here (another network namespace?)"
          : "this kernel has no nbd module");
}

absl::Status ConnectNbd(Attachment* attachment) {
  const int wanted = attachment->connections == 0 ? kDefaultConnections : attachment->connections;
  COWL_ASSIGN_OR_RETURN(const Connections connections, OpenConnections(*attachment, wanted));
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<NbdNetlink> netlink, NbdNetlink::Open());
  constexpr uint64_t kReadOnlyFlag = 1 << 1;
  NbdConnect connect;
  connect.size_bytes = connections.info.size_bytes;
  connect.block_bytes = kNbdBlockBytes;
  connect.server_flags = connections.info.flags | (attachment->read_only ? kReadOnlyFlag : 0);
  connect.request_timeout_s = kRequestTimeoutS;
  connect.dead_connection_timeout_s = attachment->dead_server_timeout_s;
  connect.backend_id = attachment->backend_id;
  connect.sockets = connections.sockets;
  COWL_ASSIGN_OR_RETURN(attachment->nbd_index, netlink->Connect(connect));
  attachment->connections = wanted;
  attachment->size_bytes = connections.info.size_bytes;
  attachment->device = "/dev/nbd" + std::to_string(attachment->nbd_index);
  const absl::Status ready = WaitForDevice(*attachment);
  if (!ready.ok()) (void)netlink->Disconnect(attachment->nbd_index);
  return ready;
}

bool IsOurNbd(const Attachment& attachment) {
  return !attachment.backend_id.empty() &&
         ReadLine(SysFolder(attachment.nbd_index) + "/backend") == attachment.backend_id;
}

absl::StatusOr<uint32_t> FindNbd(const std::string& backend_id) {
  const std::unique_ptr<DIR, int (*)(DIR*)> blocks(opendir("/sys/block"), closedir);
  while (const dirent* entry = blocks ? readdir(blocks.get()) : nullptr) {
    const std::string_view name = entry->d_name;
    uint64_t index = 0;
    if (!name.starts_with("nbd") || !ParseNumber(name.substr(3), &index)) continue;
    if (ReadLine(SysFolder(static_cast<uint32_t>(index)) + "/backend") == backend_id)
      return static_cast<uint32_t>(index);
  }
  return NotFound("no nbd device is " + backend_id);
}

absl::Status ReconnectNbd(const Attachment& attachment, uint64_t size_bytes) {
  COWL_ASSIGN_OR_RETURN(const Connections connections,
                        OpenConnections(attachment, attachment.connections));
  if (size_bytes != 0 && connections.info.size_bytes != size_bytes) {
    return FailedPrecondition("the server says " + std::to_string(connections.info.size_bytes) +
                              " bytes of " + attachment.export_name + ", not " +
                              std::to_string(size_bytes));
  }
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<NbdNetlink> netlink, NbdNetlink::Open());
  return netlink->Reconfigure(attachment.nbd_index, attachment.backend_id, size_bytes,
                              connections.sockets);
}

absl::Status DisconnectNbd(const Attachment& attachment) {
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<NbdNetlink> netlink, NbdNetlink::Open());
  // Holding the device open keeps the kernel from giving its number to somebody else between the
  // proof and the act.
  UniqueFd held(open(attachment.device.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!IsOurNbd(attachment))
    return NotFound(attachment.device + " is no longer the device that cowl attached");
  COWL_RETURN_IF_ERROR(netlink->Disconnect(attachment.nbd_index));
  // It lets go when the last one who has it open does. With --force that may be somebody else,
  // later.
  held.Reset();
  (void)WaitFor([&] { return !IsOurNbd(attachment); });
  return absl::OkStatus();
}

}  // namespace cowl
