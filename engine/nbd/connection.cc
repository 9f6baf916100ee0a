#include "nbd/connection.h"

#include <fcntl.h>

#include <algorithm>
#include <array>

#include "base/bytes.h"
#include "base/log.h"
#include "base/status.h"
#include "cowl/names.h"

namespace cowl::nbd {
namespace {

// A handshake is a few hundred bytes; only long lists of queries need more.
constexpr size_t kHandshakeReceiveBytes = 4 * kKiB;

UniqueFd Duplicate(const UniqueFd& fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }

}  // namespace

Connection::Connection(IoLoop& home, ExportTable& table, UniqueFd in, UniqueFd out,
                       std::string client, Clock::time_point handshake_deadline,
                       const SessionLimits& limits)
    : home_(home),
      client_(std::move(client)),
      handshake_deadline_(handshake_deadline),
      limits_(limits),
      in_(std::move(in)),
      out_(std::move(out)),
      handshake_(table, client_) {}

Task<void> Connection::Serve(std::shared_ptr<Connection> self) {
  Connection& connection = *self;
  const bool agreed = co_await connection.ShakeHands();
  if (!agreed || connection.ends_) co_return;
  connection.negotiated_ = connection.handshake_.TakeResult();
  // From here on Drain and Cut post to the session's loop; a post made after ours finds the session
  // there.
  connection.session_loop_ = &connection.negotiated_.disk->loop();
  co_await SwitchTo(*connection.session_loop_);
  co_await connection.RunSession();
  co_await SwitchTo(connection.home_);
}

// --- Handshake ---

std::unique_ptr<Stream> Connection::WrapForHandshake() {
  // A stream gives a socket back; of a pair we keep the descriptors and give it copies.
  return out_.valid() ? home_.WrapStreamPair(Duplicate(in_), Duplicate(out_))
                      : home_.WrapStream(std::move(in_));
}

// True when the client chose an export: then the descriptors are in in_ and out_ again.
Task<bool> Connection::ShakeHands() {
  handshake_stream_ = WrapForHandshake();
  handshake_.Greet(to_send_);
  absl::Status status;
  while (status.ok()) {
    const iovec piece{to_send_.data(), to_send_.size()};
    if (!to_send_.empty()) status = co_await handshake_stream_->Send({&piece, 1});
    to_send_.clear();
    if (!status.ok() || handshake_.state() == Handshake::State::kTransmission) break;
    if (handshake_.state() == Handshake::State::kClosed) break;
    const size_t taken = co_await Step();
    received_.erase(received_.begin(), received_.begin() + static_cast<ptrdiff_t>(taken));
    if (taken > 0) continue;
    if (!co_await ReceiveMore()) break;
  }
  const bool agreed = status.ok() && handshake_.state() == Handshake::State::kTransmission;
  if (!agreed) LogEndOfHandshake(status);
  if (agreed && !out_.valid()) in_ = handshake_stream_->Detach();
  handshake_stream_.reset();
  std::string().swap(to_send_);
  co_return agreed;
}

// One message of the handshake; on a helper thread where it asks the table, which may open files.
Task<size_t> Connection::Step() {
  size_t taken = 0;
  if (!handshake_.AsksTable(received_)) {
    taken = handshake_.Step(received_, to_send_);
    co_return taken;
  }
  OffloadAwaiter aside =
      Offload(home_, [this, &taken] { taken = handshake_.Step(received_, to_send_); });
  co_await aside;
  co_return taken;
}

Task<bool> Connection::ReceiveMore() {
  std::array<std::byte, kHandshakeReceiveBytes> into;
  const auto received = co_await handshake_stream_->Receive(into);
  if (!received.ok() || *received == 0) co_return false;
  received_.insert(received_.end(), into.begin(), into.begin() + static_cast<ptrdiff_t>(*received));
  co_return true;
}

void Connection::LogEndOfHandshake(const absl::Status& status) const {
  if (timed_out_) {
    Log().warn("nbd: {}: closed, because it did not finish the handshake in time", client_);
  } else if (handshake_.state() == Handshake::State::kClosed) {
    Log().debug("nbd: {}: handshake ended: {}", client_, handshake_.close_reason());
  } else {
    Log().debug("nbd: {}: left during the handshake {}", client_, Message(status));
  }
}

void Connection::CheckHandshake(Clock::time_point now) {
  if (handshake_stream_ == nullptr || now < handshake_deadline_) return;
  timed_out_ = true;
  handshake_stream_->Shutdown();
}

// --- Session ---

Task<void> Connection::RunSession() {
  IoLoop& loop = negotiated_.disk->loop();
  OpenExport& disk = *negotiated_.disk;
  BlockDevice& device = disk.device();
  const ExportFacts facts{device.size_bytes(), device.read_only(), negotiated_.structured,
                          negotiated_.contexts};
  {
    const std::unique_ptr<Stream> stream =
        out_.valid() ? loop.WrapStreamPair(std::move(in_), std::move(out_))
                     : loop.WrapStream(std::move(in_));
    Session session(*stream, disk, facts, limits_, received_);
    std::vector<std::byte>().swap(received_);
    session_ = &session;
    disk.SetDisconnect([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->StopSession(true);
    });
    Log().debug("nbd: {}: serves export {}", client_, Quoted(disk.name()));
    co_await session.Run();
    session_ = nullptr;
    Log().debug("nbd: {}: left export {}: {}", client_, Quoted(disk.name()),
                session.end_reason().empty() ? "said goodbye" : session.end_reason());
  }
  negotiated_.disk.reset();
}

// On the export's loop.
void Connection::StopSession(bool cut) {
  if (session_ == nullptr) return;
  if (cut) {
    session_->Abort();
  } else {
    session_->Drain();
  }
}

void Connection::Drain() {
  ends_ = true;
  if (handshake_stream_ != nullptr) handshake_stream_->Shutdown();
  if (session_loop_ != nullptr) {
    session_loop_->Post([self = shared_from_this()] { self->StopSession(false); });
  }
}

void Connection::Cut() {
  ends_ = true;
  if (handshake_stream_ != nullptr) handshake_stream_->Shutdown();
  if (session_loop_ != nullptr) {
    session_loop_->Post([self = shared_from_this()] { self->StopSession(true); });
  }
}

}  // namespace cowl::nbd
