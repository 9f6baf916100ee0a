#include "nbd/reply.h"

#include <algorithm>

#include "base/bytes.h"

namespace cowl::nbd {
namespace {

iovec Piece(const void* from, size_t size) { return {const_cast<void*>(from), size}; }

size_t HeadBytes(const Fragment& fragment) {
  return fragment.is_hole ? sizeof(WireOffsetHole) : sizeof(WireOffsetData);
}

}  // namespace

void Reply::SetHead(std::span<const std::byte> head) {
  std::copy(head.begin(), head.end(), head_.begin());
  head_bytes_ = static_cast<uint32_t>(head.size());
}

// A structured client takes a simple reply too, except to a read.
void Reply::Succeed(const Request& request) { SetHead(EncodeSimpleReply({kOk, request.cookie})); }

void Reply::Fail(const Request& request, Error error, std::string_view message, bool structured) {
  if (structured) {
    AppendErrorChunk(request.cookie, error, WireText(message), text_);
  } else {
    SetHead(EncodeSimpleReply({error, request.cookie}));
  }
}

void Reply::SetData(const Request& request, BufferRef data, bool structured, bool more_follows) {
  data_ = std::move(data);
  data_bytes_ = request.length_bytes;
  if (!structured) {
    SetHead(EncodeSimpleReply({kOk, request.cookie}));
  } else if (data_bytes_ == 0) {
    SetHead(EncodeChunk({kReplyFlagDone, kChunkNone, request.cookie, 0}));
  } else {
    SetHead(EncodeOffsetDataHead(request.cookie, !more_follows, request.offset_bytes, data_bytes_));
  }
}

void Reply::SetFragments(const Request& request, std::span<const Fragment> fragments,
                         BufferRef data, bool more_follows) {
  data_ = std::move(data);
  fragments_.assign(fragments.begin(), fragments.end());
  for (const Fragment& fragment : fragments_) {
    const bool is_last = !more_follows && &fragment == &fragments_.back();
    if (fragment.is_hole) {
      text_ += AsText(
          EncodeOffsetHole(request.cookie, is_last, fragment.offset_bytes, fragment.length_bytes));
    } else {
      text_ += AsText(EncodeOffsetDataHead(request.cookie, is_last, fragment.offset_bytes,
                                           fragment.length_bytes));
    }
  }
}

void Reply::AppendTo(std::vector<iovec>& pieces) const {
  if (fragments_.empty()) {
    if (head_bytes_ > 0) pieces.push_back(Piece(head_.data(), head_bytes_));
    if (data_bytes_ > 0) pieces.push_back(Piece(data_.bytes().data(), data_bytes_));
    if (!text_.empty()) pieces.push_back(Piece(text_.data(), text_.size()));
    return;
  }
  const char* head = text_.data();
  const std::byte* data = data_.bytes().data();
  for (const Fragment& fragment : fragments_) {
    pieces.push_back(Piece(head, HeadBytes(fragment)));
    head += HeadBytes(fragment);
    if (fragment.is_hole) continue;
    pieces.push_back(Piece(data, fragment.length_bytes));
    data += fragment.length_bytes;
  }
}

}  // namespace cowl::nbd
