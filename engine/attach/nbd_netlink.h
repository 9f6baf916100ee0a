// nbd_netlink.h: the kernel's nbd driver as generic netlink offers it: connect, reconfigure,
// disconnect. Threads: one at a time an object. Errors: Unavailable when this kernel (or this
// network namespace) has no nbd; else the errno the kernel answered. Ownership: sockets stay the
// caller's; the kernel takes references of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct nl_sock;
struct nl_msg;

namespace cowl {

struct NbdConnect {
  uint64_t size_bytes = 0;
  uint64_t block_bytes = 0;
  uint64_t server_flags = 0;
  // A request unanswered for so long has its connection given up and is sent again on another.
  uint64_t request_timeout_s = 0;
  uint64_t dead_connection_timeout_s = 0;
  std::string backend_id;
  std::span<const int> sockets;
};

class NbdNetlink {
 public:
  static absl::StatusOr<std::unique_ptr<NbdNetlink>> Open();
  ~NbdNetlink();
  NbdNetlink(const NbdNetlink&) = delete;
  NbdNetlink& operator=(const NbdNetlink&) = delete;

  // Takes a free device and returns its index.
  absl::StatusOr<uint32_t> Connect(const NbdConnect& connect);
  // Puts `sockets` in the place of connections that are dead, as many as there are, and takes over
  // `size_bytes` unless 0. The kernel refuses when the device is not the one with that backend_id.
  absl::Status Reconfigure(uint32_t index, const std::string& backend_id, uint64_t size_bytes,
                           std::span<const int> sockets);
  absl::Status Disconnect(uint32_t index);

 private:
  NbdNetlink(nl_sock* socket, int family) : socket_(socket), family_(family) {}
  absl::Status Send(nl_msg* message, const std::string& operation);

  nl_sock* socket_;
  int family_;
  int64_t answered_index_ = -1;
};

}  // namespace cowl
