#include "attach/keeper.h"

#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "attach/attach.h"

namespace cowl {
namespace {

// How often to see whether nbd has been loaded meanwhile, by the first attach of this boot.
constexpr int kLookAgainMs = 5000;
// A server's death or a stalled disk takes several connections at once: they are mended together.
constexpr int kTogetherMs = 200;

int NoteDeadLink(nl_msg* message, void* context) {
  const auto* header = static_cast<const genlmsghdr*>(nlmsg_data(nlmsg_hdr(message)));
  if (header->cmd == NBD_CMD_LINK_DEAD) *static_cast<bool*>(context) = true;
  return NL_OK;
}

}  // namespace

// The kernel's announcements of dead connections.
class AttachmentKeeper::Links {
 public:
  // Null when this kernel, or this network namespace, has no nbd.
  static std::unique_ptr<Links> Open() {
    std::unique_ptr<Links> links(new Links(nl_socket_alloc()));
    nl_sock* socket = links->socket_.get();
    if (socket == nullptr || genl_connect(socket) != 0) return nullptr;
    const int group =
        genl_ctrl_resolve_grp(socket, NBD_GENL_FAMILY_NAME, NBD_GENL_MCAST_GROUP_NAME);
    if (group < 0 || nl_socket_add_membership(socket, group) != 0) return nullptr;
    nl_socket_disable_seq_check(socket);
    nl_socket_set_nonblocking(socket);
    nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, NoteDeadLink, &links->dead_);
    return links;
  }

  int fd() const { return nl_socket_get_fd(socket_.get()); }

  // True when one has died since the last call. More announcements than fit in the socket are an
  // announcement, too.
  bool TakeDead() {
    int result = 0;
    while (result == 0) result = nl_recvmsgs_default(socket_.get());
    return std::exchange(dead_, false) || result == -NLE_NOMEM;
  }

 private:
  explicit Links(nl_sock* socket) : socket_(socket, nl_socket_free) {}
  const std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket_;
  bool dead_ = false;
};

AttachmentKeeper::AttachmentKeeper(std::string store_dir, Report report)
    : store_dir_(std::move(store_dir)),
      report_(std::move(report)),
      end_event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { Run(); });
}

AttachmentKeeper::~AttachmentKeeper() {
  const uint64_t one = 1;
  (void)!write(end_event_.get(), &one, sizeof(one));
  thread_.join();
}

void AttachmentKeeper::Run() {
  links_ = Links::Open();
  ReattachAll();
  while (!WaitForWork()) {
    if (links_ == nullptr) {
      links_ = Links::Open();
    } else if (links_->TakeDead()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTogetherMs));
      (void)links_->TakeDead();
      ReattachAll();
    }
  }
}

void AttachmentKeeper::ReattachAll() {
  if (const absl::Status status = Reattach(store_dir_); !status.ok()) report_(status);
}

bool AttachmentKeeper::WaitForWork() {
  pollfd wait[2] = {{end_event_.get(), POLLIN, 0},
                    {links_ == nullptr ? -1 : links_->fd(), POLLIN, 0}};
  (void)poll(wait, 2, links_ == nullptr ? kLookAgainMs : -1);
  return (wait[0].revents & POLLIN) != 0;
}

}  // namespace cowl
