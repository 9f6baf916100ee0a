// input_buffer.h: what a client sent and nobody has taken yet: one block receives many requests,
// and the payload of a write that lies in it whole is used where it lies.
// Ownership: the block is shared with those who hold a BufferRef of it; bytes they look at are
// never moved or overwritten.
// Threads: one.
// Errors: none.
#pragma once

#include <cstddef>
#include <span>

#include "nbd/buffer_pool.h"

namespace cowl::nbd {

class InputBuffer {
 public:
  explicit InputBuffer(BufferPool& pool) : pool_(pool) {}

  std::span<const std::byte> unread() const {
    return block_.bytes().subspan(begin_, end_ - begin_);
  }
  // REQUIRES: at most unread().size().
  void Consume(size_t count) { begin_ += count; }

  // Where to receive: behind what is unread, with room for `unread_bytes_wanted` of unread bytes in
  // one piece. The block has `block_bytes` where it can be chosen, and more where that is too
  // small. Unread bytes may move: spans of them end here, those with an owner() do not.
  std::span<std::byte> Room(size_t unread_bytes_wanted, size_t block_bytes);
  // REQUIRES: at most what Room gave.
  void Commit(size_t count) { end_ += count; }

  void Append(std::span<const std::byte> bytes);

  // An owner of the bytes in unread(), to keep them after Consume.
  BufferRef owner() const { return block_; }

 private:
  bool CanStay(size_t unread_bytes_wanted, size_t block_bytes) const;
  void Move(size_t block_bytes);

  BufferPool& pool_;
  BufferRef block_;
  size_t begin_ = 0;  // unread bytes: [begin_, end_) of the block
  size_t end_ = 0;
};

}  // namespace cowl::nbd
