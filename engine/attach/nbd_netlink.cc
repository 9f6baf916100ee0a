#include "attach/nbd_netlink.h"

#include <linux/nbd-netlink.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>

#include <cerrno>
#include <functional>

#include "base/status.h"

namespace cowl {
namespace {

struct FreeMessage {
  void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message_ = std::unique_ptr<nl_msg, FreeMessage>;

// A request of the family with `command` as its header; null when memory is short.
Message_ NewMessage(int family, uint8_t command) {
  Message_ message(nlmsg_alloc());
  if (message != nullptr && genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0,
                                        command, NBD_GENL_VERSION) == nullptr) {
    message.reset();
  }
  return message;
}

// The sockets as the driver wants them: a list of items that hold one descriptor each.
bool PutSockets(nl_msg* message, std::span<const int> sockets) {
  nlattr* list = nla_nest_start(message, NBD_ATTR_SOCKETS);
  if (list == nullptr) return false;
  for (const int socket : sockets) {
    nlattr* item = nla_nest_start(message, NBD_SOCK_ITEM);
    if (item == nullptr || nla_put_u32(message, NBD_SOCK_FD, static_cast<uint32_t>(socket)) != 0)
      return false;
    nla_nest_end(message, item);
  }
  nla_nest_end(message, list);
  return true;
}

// What the kernel answered to one request.
struct Answer {
  int error = 0;
  bool done = false;
  int64_t index = -1;
};

int OnError(sockaddr_nl*, nlmsgerr* error, void* context) {
  Answer& answer = *static_cast<Answer*>(context);
  answer.error = -error->error;
  answer.done = true;
  return NL_STOP;
}

int OnAck(nl_msg*, void* context) {
  static_cast<Answer*>(context)->done = true;
  return NL_STOP;
}

int OnValid(nl_msg* message, void* context) {
  nlattr* attributes[NBD_ATTR_MAX + 1];
  if (genlmsg_parse(nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, nullptr) == 0 &&
      attributes[NBD_ATTR_INDEX] != nullptr &&
      nla_len(attributes[NBD_ATTR_INDEX]) == sizeof(uint32_t)) {
    static_cast<Answer*>(context)->index = nla_get_u32(attributes[NBD_ATTR_INDEX]);
  }
  return NL_OK;
}

absl::Status NoMemory() { return ErrnoStatus(ENOMEM, "build", "netlink message"); }

}  // namespace

absl::StatusOr<std::unique_ptr<NbdNetlink>> NbdNetlink::Open() {
  nl_sock* socket = nl_socket_alloc();
  if (socket == nullptr) return NoMemory();
  std::unique_ptr<NbdNetlink> netlink(new NbdNetlink(socket, -1));
  if (const int error = genl_connect(socket); error != 0) {
    return Unavailable(std::string("netlink cannot be used: ") + nl_geterror(error));
  }
  netlink->family_ = genl_ctrl_resolve(socket, NBD_GENL_FAMILY_NAME);
  if (netlink->family_ < 0) return Unavailable("this kernel has no nbd (the module is not loaded)");
  return netlink;
}

NbdNetlink::~NbdNetlink() { nl_socket_free(socket_); }

absl::Status NbdNetlink::Send(nl_msg* message, const std::string& operation) {
  Answer answer;
  const std::unique_ptr<nl_cb, void (*)(nl_cb*)> callbacks(nl_cb_alloc(NL_CB_DEFAULT), nl_cb_put);
  if (callbacks == nullptr) return NoMemory();
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, OnError, &answer);
  nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, OnAck, &answer);
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, OnValid, &answer);
  int result = nl_send_auto(socket_, message);
  while (result >= 0 && !answer.done) result = nl_recvmsgs(socket_, callbacks.get());
  if (!answer.done) return Internal(operation + ": netlink: " + nl_geterror(result));
  if (answer.error != 0) return ErrnoStatus(answer.error, operation, "by netlink");
  answered_index_ = answer.index;
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> NbdNetlink::Connect(const NbdConnect& connect) {
  const Message_ message = NewMessage(family_, NBD_CMD_CONNECT);
  // No index: the kernel takes a free device.
  if (message == nullptr ||
      nla_put_u64(message.get(), NBD_ATTR_SIZE_BYTES, connect.size_bytes) != 0 ||
      nla_put_u64(message.get(), NBD_ATTR_BLOCK_SIZE_BYTES, connect.block_bytes) != 0 ||
      nla_put_u64(message.get(), NBD_ATTR_SERVER_FLAGS, connect.server_flags) != 0 ||
      nla_put_u64(message.get(), NBD_ATTR_TIMEOUT, connect.request_timeout_s) != 0 ||
      nla_put_u64(message.get(), NBD_ATTR_DEAD_CONN_TIMEOUT, connect.dead_connection_timeout_s) !=
          0 ||
      nla_put_string(message.get(), NBD_ATTR_BACKEND_IDENTIFIER, connect.backend_id.c_str()) != 0 ||
      !PutSockets(message.get(), connect.sockets)) {
    return NoMemory();
  }
  COWL_RETURN_IF_ERROR(Send(message.get(), "connect an nbd device"));
  if (answered_index_ < 0) return Internal("connect an nbd device: the kernel did not say which");
  return static_cast<uint32_t>(answered_index_);
}

absl::Status NbdNetlink::Reconfigure(uint32_t index, const std::string& backend_id,
                                     uint64_t size_bytes, std::span<const int> sockets) {
  const Message_ message = NewMessage(family_, NBD_CMD_RECONFIGURE);
  if (message == nullptr || nla_put_u32(message.get(), NBD_ATTR_INDEX, index) != 0 ||
      nla_put_string(message.get(), NBD_ATTR_BACKEND_IDENTIFIER, backend_id.c_str()) != 0 ||
      (size_bytes != 0 && nla_put_u64(message.get(), NBD_ATTR_SIZE_BYTES, size_bytes) != 0) ||
      (!sockets.empty() && !PutSockets(message.get(), sockets))) {
    return NoMemory();
  }
  return Send(message.get(), "reconfigure /dev/nbd" + std::to_string(index));
}

absl::Status NbdNetlink::Disconnect(uint32_t index) {
  const Message_ message = NewMessage(family_, NBD_CMD_DISCONNECT);
  if (message == nullptr || nla_put_u32(message.get(), NBD_ATTR_INDEX, index) != 0)
    return NoMemory();
  return Send(message.get(), "disconnect /dev/nbd" + std::to_string(index));
}

}  // namespace cowl
