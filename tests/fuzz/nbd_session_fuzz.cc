// The transmission phase, fed with anything: requests are decoded, judged and run on a disk in memory, and every answer is checked
// to be well-formed and to fit a request. The first byte of the input sets the size of the pieces it is received in, the second what
// was negotiated.
#include <algorithm>
#include <string>

#include "../unit/nbd/static_table.h"
#include "base/bytes.h"
#include "nbd/session.h"

namespace cowl::nbd {
namespace {

constexpr uint64_t kDiskBytes = 256 * kKiB + 777;

// Gives the input piece by piece, and keeps what is sent.
class InputStream : public Stream {
 public:
  InputStream(std::span<const std::byte> input, size_t piece_bytes) : input_(input), piece_bytes_(piece_bytes) {}

  Task<absl::StatusOr<size_t>> Receive(std::span<std::byte> into) override {
    COWL_CHECK(!into.empty());
    if (is_shut_down_) co_return absl::CancelledError("shut down");
    const size_t count = std::min({into.size(), piece_bytes_, input_.size()});
    std::copy_n(input_.begin(), count, into.begin());
    input_ = input_.subspan(count);
    co_return count;
  }
  Task<absl::Status> Send(std::span<const iovec> buffers) override {
    COWL_CHECK(!is_shut_down_ && buffers.size() < 1024);
    for (const iovec& buffer : buffers) sent_.append(static_cast<const char*>(buffer.iov_base), buffer.iov_len);
    co_return absl::OkStatus();
  }
  void Shutdown() override { is_shut_down_ = true; }
  UniqueFd Detach() override { return UniqueFd(); }

  std::string_view sent() const { return sent_; }

 private:
  std::span<const std::byte> input_;
  const size_t piece_bytes_;
  std::string sent_;
  bool is_shut_down_ = false;
};

void CheckChunk(const Chunk& chunk, std::string_view payload) {
  switch (chunk.type) {
    case kChunkNone: COWL_CHECK(payload.empty() && (chunk.flags & kReplyFlagDone) != 0); break;
    case kChunkOffsetData: COWL_CHECK(payload.size() > 8 && LoadBig<uint64_t>(payload.data()) + payload.size() - 8 <= kDiskBytes); break;
    case kChunkOffsetHole:
      COWL_CHECK(payload.size() == 12 && LoadBig<uint32_t>(payload.data() + 8) > 0);
      COWL_CHECK(LoadBig<uint64_t>(payload.data()) + LoadBig<uint32_t>(payload.data() + 8) <= kDiskBytes);
      break;
    case kChunkBlockStatus: COWL_CHECK(payload.size() >= 12 && payload.size() % 8 == 4); break;
    case kChunkError: COWL_CHECK(payload.size() >= 6 && LoadBig<uint32_t>(payload.data()) != kOk); break;
    default: COWL_CHECK(false);
  }
}

// With structured replies the answers can be told apart without knowing the requests.
void CheckStructured(std::string_view sent) {
  while (!sent.empty()) {
    if (DecodeSimpleReply(AsBytes(sent))) {
      sent.remove_prefix(sizeof(WireSimpleReply));
      continue;
    }
    const auto chunk = DecodeChunk(AsBytes(sent));
    COWL_CHECK(chunk && sent.size() - sizeof(WireChunk) >= chunk->payload_bytes);
    CheckChunk(*chunk, sent.substr(sizeof(WireChunk), chunk->payload_bytes));
    sent.remove_prefix(sizeof(WireChunk) + chunk->payload_bytes);
  }
}

Task<void> RunSession(Session& session, bool& has_ended) {
  co_await session.Run();
  has_ended = true;
}

void Run(std::span<const std::byte> input) {
  if (input.size() < 2) return;
  const size_t piece_bytes = 1 + static_cast<size_t>(input[0]) * 37;
  const auto agreed = static_cast<uint8_t>(input[1]);
  StaticTable table;
  table.Add("disk", "", kDiskBytes, (agreed & 2) != 0);
  const auto disk = table.Open("disk", "fuzzer");
  ExportFacts facts{kDiskBytes, (agreed & 2) != 0, (agreed & 1) != 0, {}};
  if (facts.structured && (agreed & 4) != 0) facts.contexts.Add(kAllocationContext);
  if (facts.structured && (agreed & 8) != 0) facts.contexts.Add(kDepthContext);
  InputStream stream(input.subspan(2), piece_bytes);
  Session session(stream, **disk, facts, SessionLimits{}, {});
  bool has_ended = false;
  StartDetached(RunSession(session, has_ended));
  COWL_CHECK(has_ended);
  if (facts.structured) CheckStructured(stream.sent());
}

}  // namespace
}  // namespace cowl::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cowl::nbd::Run(std::as_bytes(std::span(data, size)));
  return 0;
}
