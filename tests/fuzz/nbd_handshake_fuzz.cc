// The handshake, fed with anything, in pieces of any size. The first byte of the input sets the size of the pieces.
#include <algorithm>
#include <string>

#include "../unit/nbd/static_table.h"
#include "base/bytes.h"
#include "nbd/handshake.h"

namespace cowl::nbd {
namespace {

StaticTable& Table() {
  static StaticTable& table = *[] {
    auto* const made = new StaticTable;
    made->Add("disk", "a disk", 1'000'777);
    made->Add("image:latest", "", 4096, true);
    made->Add("", "the default", 512);
    return made;
  }();
  return table;
}

// All that is said but for the reply to NBD_OPT_EXPORT_NAME, which has no header, is option replies.
void CheckReplies(std::string_view out, bool ends_without_header) {
  while (!out.empty()) {
    const auto header = DecodeOptionReplyHeader(AsBytes(out));
    if (!header) {
      COWL_CHECK(ends_without_header && (out.size() == 10 || out.size() == 134));
      return;
    }
    COWL_CHECK(out.size() - sizeof(WireOptionReply) >= header->data_bytes);
    out.remove_prefix(sizeof(WireOptionReply) + header->data_bytes);
  }
}

void Run(std::span<const std::byte> input) {
  if (input.empty()) return;
  const size_t piece_bytes = 1 + static_cast<size_t>(input[0]);
  input = input.subspan(1);
  Handshake handshake(Table(), "fuzzer");
  std::vector<std::byte> pending;
  std::string out;
  while (!input.empty()) {
    const auto piece = input.first(std::min(piece_bytes, input.size()));
    input = input.subspan(piece.size());
    pending.insert(pending.end(), piece.begin(), piece.end());
    for (;;) {
      handshake.AsksTable(pending);
      const size_t taken = handshake.Step(pending, out);
      COWL_CHECK(taken <= pending.size());
      if (taken == 0) break;
      pending.erase(pending.begin(), pending.begin() + static_cast<ptrdiff_t>(taken));
    }
    const bool is_over = handshake.state() == Handshake::State::kClosed || handshake.state() == Handshake::State::kTransmission;
    if (is_over) break;
    COWL_CHECK(pending.size() <= Handshake::kInputBytesMax);
  }
  const bool transmits = handshake.state() == Handshake::State::kTransmission;
  CheckReplies(out, transmits);
  if (transmits) {
    const Negotiated result = handshake.TakeResult();
    COWL_CHECK(result.disk != nullptr);
    COWL_CHECK(result.structured || result.contexts.empty());
  }
}

}  // namespace
}  // namespace cowl::nbd

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cowl::nbd::Run(std::as_bytes(std::span(data, size)));
  return 0;
}
