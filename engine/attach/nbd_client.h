// nbd_client.h: one NBD connection to a server on a unix socket, for attaching: the handshake,
// whose socket the kernel can then take over, and blocking requests, for the FUSE way. libnbd does
// the protocol. Threads: one at a time. Units: bytes. Ownership: the connection closes with the
// object, unless TakeSocket gave it away. Errors: of a request, the errno the server answered;
// Unavailable when the connection is gone, whatever the request was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

struct nbd_handle;

namespace cowl {

// What the server says of an export.
struct ExportInfo {
  uint64_t size_bytes = 0;
  uint16_t flags = 0;  // the protocol's transmission flags
  bool read_only = false;
  bool multi_conn = false;
  std::string identity;  // what must be the same when a disk comes back; empty: the server tells
                         // nothing of the kind
};

// Pure: cowl's server ends an export's description in "id ..."; of others' descriptions nothing is
// known to stay.
std::string IdentityOf(std::string_view description);

class NbdClient {
 public:
  // Connects and opens the export, in `timeout_ms` or less. NotFound: the server does not have that
  // export. Unavailable: nobody listens, or the server went away meanwhile.
  static absl::StatusOr<std::unique_ptr<NbdClient>> Connect(const std::string& socket_path,
                                                            const std::string& export_name,
                                                            int timeout_ms);
  ~NbdClient();
  NbdClient(const NbdClient&) = delete;
  NbdClient& operator=(const NbdClient&) = delete;

  const ExportInfo& info() const { return info_; }

  // The socket, in the state where requests may begin (simple replies). No other call may follow.
  absl::StatusOr<UniqueFd> TakeSocket();

  absl::Status Read(uint64_t offset_bytes, std::span<std::byte> into);
  absl::Status Write(uint64_t offset_bytes, std::span<const std::byte> from);
  absl::Status Flush();
  // The range reads as zeros afterwards, and may give up its space.
  absl::Status Zero(uint64_t offset_bytes, uint64_t length_bytes);

 private:
  NbdClient(nbd_handle* handle, std::string where) : handle_(handle), where_(std::move(where)) {}
  absl::Status Negotiate(const std::string& socket_path, const std::string& export_name,
                         int timeout_ms);
  absl::Status LearnInfo();
  absl::Status RequestError(const char* operation);

  nbd_handle* handle_;
  std::string where_;
  ExportInfo info_;
};

}  // namespace cowl
