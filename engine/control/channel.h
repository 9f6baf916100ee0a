// channel.h: messages of the control socket: JSON documents in frames, with descriptors beside
// them. A frame is "COWL", the length of the document (4 bytes, little endian), the document.
// Descriptors travel with the first byte. Units: milliseconds, bytes. Ownership: a channel owns its
// socket; Receive hands over the descriptors that came. Threads: one sender and one receiver at a
// time. Blocking. Errors: Cancelled: the peer closed in good order, between frames.
// InvalidArgument: what came is no frame; the channel is then of no more use. DeadlineExceeded:
// nothing came in time. A peer that is gone is Unavailable, never SIGPIPE.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "control/json.h"

namespace cowl {

inline constexpr uint32_t kControlProtocol = 1;
inline constexpr uint32_t kRequestBytesMax = 1u << 20;
inline constexpr uint32_t kReplyBytesMax = 1u << 30;
inline constexpr size_t kFrameHeaderBytes = 8;
inline constexpr size_t kFdsMax = 8;

struct ReceiveOptions {
  uint32_t bytes_max = kRequestBytesMax;
  int timeout_ms = -1;  // -1: for ever; for the whole frame
  std::function<bool()>
      interrupted;  // asked when a signal arrived; true gives Cancelled. May be empty
};

class Channel {
 public:
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::Status Send(const Json& message, std::span<const int> fds = {});
  // `fds` may be null: descriptors that come are then closed.
  absl::StatusOr<Json> Receive(const ReceiveOptions& options, std::vector<UniqueFd>* fds = nullptr);
  // The peer gets an end of stream; receiving goes on.
  void FinishSending();
  // True once the peer has closed or finished sending.
  bool PeerFinished() const;
  int fd() const { return socket_.get(); }
  UniqueFd TakeSocket() { return std::move(socket_); }

 private:
  absl::Status SendAll(std::span<const std::byte> bytes, std::span<const int> fds);
  absl::Status ReceiveAll(std::span<std::byte> into, bool at_start, int64_t deadline_ms,
                          const ReceiveOptions& options, std::vector<UniqueFd>* fds);

  UniqueFd socket_;
};

// What a status becomes on the wire, and back: code and message survive.
Json StatusToJson(const absl::Status& status);
absl::Status StatusFromJson(const Json& json);

}  // namespace cowl
