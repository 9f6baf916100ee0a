#include "image/nbd_client.h"

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "image/copy.h"

namespace cowl {
namespace {

constexpr int kTurnMs = 500;
// Pieces in flight together let the server decompress on several threads.
constexpr uint64_t kPieceBytes = 256 * kKiB;
// A question for holes has 32 bits of length, and is answered best when it is aligned.
constexpr uint64_t kRunsBytesMax = 2 * kGiB;

int TakeRuns(void* user_data, const char* context, uint64_t, uint32_t* entries, size_t count,
             int*) {
  if (std::string_view(context) != LIBNBD_CONTEXT_BASE_ALLOCATION) return 0;
  auto& runs = *static_cast<std::vector<SourceRun>*>(user_data);
  for (size_t i = 0; i + 1 < count; i += 2) {
    const bool zero = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0;
    if (!runs.empty() && runs.back().zero == zero) {
      runs.back().length_bytes += entries[i];
    } else {
      runs.push_back({entries[i], zero});
    }
  }
  return 0;
}

}  // namespace

absl::Status LibnbdClient::Failed(const std::string& what) const {
  const char* const error = nbd_get_error();
  const std::string said = said_();
  return DataLoss(
      absl::StrCat(what, " ", name_, ": ",
                   said.empty() ? (error == nullptr ? "no reason given" : error) : said));
}

absl::StatusOr<std::unique_ptr<LibnbdClient>> LibnbdClient::Connect(
    UniqueFd socket, const std::string& name, std::function<std::string()> said,
    const Progress& progress) {
  std::unique_ptr<LibnbdClient> client(new LibnbdClient(name, std::move(said), progress));
  COWL_RETURN_IF_ERROR(client->Handshake(std::move(socket)));
  return client;
}

absl::Status LibnbdClient::Handshake(UniqueFd socket) {
  handle_.reset(nbd_create());
  if (handle_ == nullptr) return Failed("cannot open");
  if (nbd_add_meta_context(handle_.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) != 0 ||
      nbd_aio_connect_socket(handle_.get(), socket.Release()) != 0) {
    return Failed("cannot open");
  }
  while (nbd_aio_is_connecting(handle_.get()) == 1) COWL_RETURN_IF_ERROR(Turn());
  if (nbd_aio_is_ready(handle_.get()) != 1) return Failed("cannot open");
  const int64_t size = nbd_get_size(handle_.get());
  if (size < 0) return Failed("cannot open");
  size_bytes_ = static_cast<uint64_t>(size);
  knows_holes_ = nbd_can_meta_context(handle_.get(), LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
  return absl::OkStatus();
}

absl::Status LibnbdClient::Turn() {
  const int turned = nbd_poll(handle_.get(), kTurnMs);
  if (turned < 0 && nbd_get_errno() != EINTR) return Failed("cannot talk to the server of");
  return turned == 1 ? absl::OkStatus() : Report(progress_, at_bytes_, size_bytes_);
}

absl::Status LibnbdClient::Await(int64_t cookie, uint64_t offset_bytes) {
  at_bytes_ = offset_bytes;
  const std::string what = absl::StrCat("cannot access byte ", offset_bytes, " of");
  if (cookie < 0) return Failed(what);
  for (;;) {
    const int done = nbd_aio_command_completed(handle_.get(), static_cast<uint64_t>(cookie));
    if (done < 0) return Failed(what);
    if (done == 1) return absl::OkStatus();
    if (nbd_aio_is_dead(handle_.get()) == 1 || nbd_aio_is_closed(handle_.get()) == 1)
      return Failed(what);
    COWL_RETURN_IF_ERROR(Turn());
  }
}

// All are awaited even after an error: libnbd uses their buffer until they are done. A dead
// connection ends them.
absl::Status LibnbdClient::AwaitAll(std::span<const int64_t> cookies, uint64_t offset_bytes) {
  absl::Status status;
  for (size_t i = 0; i < cookies.size(); ++i) {
    const absl::Status one = Await(cookies[i], offset_bytes + i * kPieceBytes);
    if (one.code() == absl::StatusCode::kCancelled) {
      handle_.reset();
      return one;
    }
    status.Update(one);
  }
  return status;
}

absl::Status LibnbdClient::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  std::vector<int64_t> cookies;
  for (uint64_t done = 0; done < into.size(); done += kPieceBytes) {
    const size_t length = std::min<uint64_t>(kPieceBytes, into.size() - done);
    cookies.push_back(nbd_aio_pread(handle_.get(), into.data() + done, length, offset_bytes + done,
                                    NBD_NULL_COMPLETION, 0));
  }
  return AwaitAll(cookies, offset_bytes);
}

absl::Status LibnbdClient::Write(uint64_t offset_bytes, std::span<const std::byte> from) {
  std::vector<int64_t> cookies;
  for (uint64_t done = 0; done < from.size(); done += kPieceBytes) {
    const size_t length = std::min<uint64_t>(kPieceBytes, from.size() - done);
    cookies.push_back(nbd_aio_pwrite(handle_.get(), from.data() + done, length, offset_bytes + done,
                                     NBD_NULL_COMPLETION, 0));
  }
  return AwaitAll(cookies, offset_bytes);
}

absl::Status LibnbdClient::Flush() {
  return Await(nbd_aio_flush(handle_.get(), NBD_NULL_COMPLETION, 0), 0);
}

absl::StatusOr<std::vector<SourceRun>> LibnbdClient::Runs(uint64_t offset_bytes) {
  const uint64_t length = std::min(size_bytes_ - offset_bytes, kRunsBytesMax);
  std::vector<SourceRun> runs;
  if (!knows_holes_) return std::vector<SourceRun>{{length, false}};
  nbd_extent_callback take{};
  take.callback = TakeRuns;
  take.user_data = &runs;
  COWL_RETURN_IF_ERROR(
      Await(nbd_aio_block_status(handle_.get(), length, offset_bytes, take, NBD_NULL_COMPLETION, 0),
            offset_bytes));
  if (runs.empty() || runs[0].length_bytes == 0) return Failed("no map of");
  return runs;
}

void LibnbdClient::Disconnect() {
  if (handle_ != nullptr) nbd_shutdown(handle_.get(), 0);
  handle_.reset();
}

}  // namespace cowl
