#include "attach/nbd_client.h"

#include <fcntl.h>
#include <libnbd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>

#include "base/status.h"
#include "base/units.h"
#include "cowl/names.h"

namespace cowl {
namespace {

// The protocol's transmission flags, as the kernel's netlink interface takes them too.
constexpr uint16_t kHasFlags = 1 << 0;
constexpr uint16_t kReadOnly = 1 << 1;
constexpr uint16_t kSendFlush = 1 << 2;
constexpr uint16_t kSendFua = 1 << 3;
constexpr uint16_t kSendTrim = 1 << 5;
constexpr uint16_t kSendWriteZeroes = 1 << 6;
constexpr uint16_t kCanMultiConn = 1 << 8;

// Requests stay far below what the protocol's 32 bits and the servers' limits allow.
constexpr uint64_t kPayloadBytesMax = 1 * kMiB;
constexpr uint64_t kZeroBytesMax = 1 * kGiB;

bool IsGone(nbd_handle* handle) {
  return nbd_aio_is_dead(handle) != 0 || nbd_aio_is_closed(handle) != 0;
}

std::string LastError() {
  const char* text = nbd_get_error();
  return text != nullptr ? text : "unknown error";
}

}  // namespace

std::string IdentityOf(std::string_view description) {
  constexpr std::string_view kMark = ", id ";
  const size_t at = description.rfind(kMark);
  return at == std::string_view::npos ? std::string()
                                      : std::string(description.substr(at + kMark.size()));
}

absl::StatusOr<std::unique_ptr<NbdClient>> NbdClient::Connect(const std::string& socket_path,
                                                              const std::string& export_name,
                                                              int timeout_ms) {
  nbd_handle* handle = nbd_create();
  if (handle == nullptr) return Internal("nbd_create: " + LastError());
  std::unique_ptr<NbdClient> client(
      new NbdClient(handle, "export " + Quoted(export_name) + " on " + socket_path));
  COWL_RETURN_IF_ERROR(client->Negotiate(socket_path, export_name, timeout_ms));
  COWL_RETURN_IF_ERROR(client->LearnInfo());
  return client;
}

NbdClient::~NbdClient() {
  if (handle_ != nullptr) nbd_close(handle_);
}

absl::Status NbdClient::Negotiate(const std::string& socket_path, const std::string& export_name,
                                  int timeout_ms) {
  // The kernel understands simple replies only, and nothing here needs more.
  if (nbd_set_request_structured_replies(handle_, false) != 0 ||
      nbd_set_full_info(handle_, true) != 0 || nbd_set_pread_initialize(handle_, false) != 0 ||
      nbd_set_export_name(handle_, export_name.c_str()) != 0) {
    return InvalidArgument(where_ + ": " + LastError());
  }
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  int result = nbd_aio_connect_unix(handle_, socket_path.c_str());
  while (result >= 0 &&
         (nbd_aio_is_connecting(handle_) != 0 || nbd_aio_is_negotiating(handle_) != 0)) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return Unavailable(where_ + ": the server does not answer; see that it runs");
    result = nbd_poll(handle_, static_cast<int>(left));
  }
  if (result >= 0 && nbd_aio_is_ready(handle_) == 1) return absl::OkStatus();
  const int error = nbd_get_errno();
  if (error == ENOENT && access(socket_path.c_str(), F_OK) == 0) {
    return NotFound(where_ + ": the server has no such export (" + LastError() + ")");
  }
  return Unavailable(where_ + ": " + LastError());
}

absl::Status NbdClient::LearnInfo() {
  const int64_t size = nbd_get_size(handle_);
  if (size < 0) return InvalidArgument(where_ + ": no usable size: " + LastError());
  info_.size_bytes = static_cast<uint64_t>(size);
  info_.read_only = nbd_is_read_only(handle_) == 1;
  info_.multi_conn = nbd_can_multi_conn(handle_) == 1;
  info_.flags = kHasFlags;
  if (info_.read_only) info_.flags |= kReadOnly;
  if (info_.multi_conn) info_.flags |= kCanMultiConn;
  if (nbd_can_flush(handle_) == 1) info_.flags |= kSendFlush;
  if (nbd_can_fua(handle_) == 1) info_.flags |= kSendFua;
  if (nbd_can_trim(handle_) == 1) info_.flags |= kSendTrim;
  if (nbd_can_zero(handle_) == 1) info_.flags |= kSendWriteZeroes;
  if (char* text = nbd_get_export_description(handle_); text != nullptr) {
    info_.identity = IdentityOf(text);
    free(text);
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> NbdClient::TakeSocket() {
  // libnbd reads a handshake exactly to its end, so nothing of the transmission phase is lost;
  // closing the handle closes its descriptor without a word to the server.
  const int own = nbd_aio_get_fd(handle_);
  if (own < 0) return Unavailable(where_ + ": " + LastError());
  UniqueFd fd(fcntl(own, F_DUPFD_CLOEXEC, 3));
  if (!fd.valid()) return ErrnoStatus(errno, "dup", where_);
  // The kernel's driver waits on the socket itself.
  const int flags = fcntl(fd.get(), F_GETFL);
  if (flags < 0 || fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0)
    return ErrnoStatus(errno, "fcntl", where_);
  nbd_close(std::exchange(handle_, nullptr));
  return fd;
}

absl::Status NbdClient::RequestError(const char* operation) {
  const int error = nbd_get_errno();
  // A server that is about to end says so to requests: the same as being gone.
  if (IsGone(handle_) || error == ESHUTDOWN)
    return Unavailable(where_ + ": the connection is gone");
  return ErrnoStatus(error != 0 ? error : EIO, operation, where_);
}

absl::Status NbdClient::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  while (!into.empty()) {
    const size_t n = std::min<size_t>(into.size(), kPayloadBytesMax);
    if (nbd_pread(handle_, into.data(), n, offset_bytes, 0) != 0) return RequestError("read");
    into = into.subspan(n);
    offset_bytes += n;
  }
  return absl::OkStatus();
}

absl::Status NbdClient::Write(uint64_t offset_bytes, std::span<const std::byte> from) {
  while (!from.empty()) {
    const size_t n = std::min<size_t>(from.size(), kPayloadBytesMax);
    if (nbd_pwrite(handle_, from.data(), n, offset_bytes, 0) != 0) return RequestError("write");
    from = from.subspan(n);
    offset_bytes += n;
  }
  return absl::OkStatus();
}

absl::Status NbdClient::Flush() {
  if ((info_.flags & kSendFlush) == 0) return absl::OkStatus();
  return nbd_flush(handle_, 0) == 0 ? absl::OkStatus() : RequestError("flush");
}

absl::Status NbdClient::Zero(uint64_t offset_bytes, uint64_t length_bytes) {
  if ((info_.flags & kSendWriteZeroes) == 0) return ErrnoStatus(EOPNOTSUPP, "write zeroes", where_);
  while (length_bytes > 0) {
    const uint64_t n = std::min(length_bytes, kZeroBytesMax);
    if (nbd_zero(handle_, n, offset_bytes, 0) != 0) return RequestError("write zeroes");
    length_bytes -= n;
    offset_bytes += n;
  }
  return absl::OkStatus();
}

}  // namespace cowl
