// reply.h: the bytes of one answer, in pieces, so that data goes out from where it was read.
// Ownership: the reply owns all its bytes; the iovecs it gives point into it, and it must not move
// while they are used.
// Threads: one.
// Errors: none.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/buffer_pool.h"
#include "nbd/codec.h"

namespace cowl::nbd {

// A run of a read's range: data that follows, or a hole.
struct Fragment {
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
  bool is_hole = false;
  bool operator==(const Fragment&) const = default;
};

class Reply {
 public:
  Reply() = default;
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;

  // No data: success, or a failure. A failure to a client of structured replies carries the
  // message.
  void Succeed(const Request& request);
  void Fail(const Request& request, Error error, std::string_view message, bool structured);

  // What a read found: `data` holds its bytes from the front on.
  // `more_follows`: it is not the last reply to its request, which the client takes for answered
  // with that. Structured.
  void SetData(const Request& request, BufferRef data, bool structured, bool more_follows);
  // The same with holes: `data` holds the bytes of the fragments that are none, one behind the
  // other. Structured.
  void SetFragments(const Request& request, std::span<const Fragment> fragments, BufferRef data,
                    bool more_follows);
  // Chunks, encoded.
  void SetChunks(std::string chunks) { text_ = std::move(chunks); }

  void AppendTo(std::vector<iovec>& pieces) const;
  // Of the memory that it keeps until it is sent.
  size_t data_bytes() const { return data_.size_bytes(); }

 private:
  void SetHead(std::span<const std::byte> head);

  std::array<std::byte, sizeof(WireOffsetHole)> head_;
  uint32_t head_bytes_ = 0;
  uint32_t data_bytes_ = 0;
  BufferRef data_;
  std::string text_;
  std::vector<Fragment> fragments_;  // then text_ holds their heads and data_ their data
};

}  // namespace cowl::nbd
