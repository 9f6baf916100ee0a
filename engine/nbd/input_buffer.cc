#include "nbd/input_buffer.h"

#include <algorithm>
#include <cstring>

namespace cowl::nbd {
namespace {

// Behind shared bytes, less room than this is not worth a system call.
constexpr size_t kTailBytesMin = 8 * kKiB;

}  // namespace

std::span<std::byte> InputBuffer::Room(size_t unread_bytes_wanted, size_t block_bytes) {
  if (begin_ == end_ && !block_.shared()) begin_ = end_ = 0;
  if (!CanStay(unread_bytes_wanted, block_bytes)) Move(std::max(unread_bytes_wanted, block_bytes));
  return block_.bytes().subspan(end_);
}

bool InputBuffer::CanStay(size_t unread_bytes_wanted, size_t block_bytes) const {
  if (!block_.valid()) return false;
  if (begin_ == end_ && !block_.shared()) {
    return block_.size_bytes() == std::max(block_bytes, BufferPool::kBlockBytesMin) &&
           block_.size_bytes() >= unread_bytes_wanted;
  }
  const size_t tail_bytes = block_.size_bytes() - end_;
  return block_.size_bytes() - begin_ >= unread_bytes_wanted &&
         tail_bytes >= std::min(kTailBytesMin, block_bytes / 2);
}

void InputBuffer::Move(size_t block_bytes) {
  const auto moved = unread();
  BufferRef block = pool_.Take(std::max(block_bytes, moved.size() + 1));
  if (!moved.empty()) std::memcpy(block.bytes().data(), moved.data(), moved.size());
  end_ = moved.size();
  begin_ = 0;
  block_ = std::move(block);
}

void InputBuffer::Append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const size_t unread_bytes = unread().size() + bytes.size();
  Move(unread_bytes + 1);
  std::memcpy(block_.bytes().data() + end_, bytes.data(), bytes.size());
  Commit(bytes.size());
}

}  // namespace cowl::nbd
