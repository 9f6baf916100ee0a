// buffer_pool.h: memory for what is received and what is sent, kept for the next request instead of
// going back to the allocator.
// Units: bytes; blocks are powers of two from 4 KiB to 32 MiB, aligned to 4 KiB.
// Threads: one; each thread that serves clients has a pool of its own (ForThisThread), and a buffer
// stays on its thread.
// Ownership: a BufferRef is one of the owners of its block; the last to go gives the block back.
// The pool outlives them, being the thread's.
// Memory: blocks that nobody owns are kept only up to what is in use, or kKeptBytesMin; so a thread
// whose clients are idle holds little.
// Errors: none; running out of memory ends the process, as everywhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/units.h"

namespace cowl::nbd {

class BufferPool;

// What the pool knows of a block of memory.
struct PoolBlock {
  BufferPool* pool;
  PoolBlock* next_kept;
  std::byte* data;
  uint32_t size_bytes;
  uint32_t owner_count;
};

class BufferRef {
 public:
  BufferRef() = default;
  explicit BufferRef(PoolBlock* block) : block_(block) {}
  BufferRef(const BufferRef& other) : block_(other.block_) {
    if (block_ != nullptr) ++block_->owner_count;
  }
  BufferRef(BufferRef&& other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  BufferRef& operator=(BufferRef other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~BufferRef() { Release(); }

  bool valid() const { return block_ != nullptr; }
  bool shared() const { return block_ != nullptr && block_->owner_count > 1; }
  size_t size_bytes() const { return block_ == nullptr ? 0 : block_->size_bytes; }
  std::span<std::byte> bytes() const {
    return {block_ == nullptr ? nullptr : block_->data, size_bytes()};
  }

 private:
  void Release();

  PoolBlock* block_ = nullptr;
};

class BufferPool {
 public:
  BufferPool() = default;
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  static BufferPool& ForThisThread();

  // A block of at least `size_bytes` (at most kBlockBytesMax), its content undefined.
  BufferRef Take(size_t size_bytes);

  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t kept_bytes() const { return kept_bytes_; }

  static constexpr size_t kBlockBytesMin = 4 * kKiB;
  static constexpr size_t kBlockBytesMax = 32 * kMiB;
  static constexpr uint64_t kKeptBytesMin = 1 * kMiB;

 private:
  friend class BufferRef;
  static constexpr size_t kClassCount = 14;  // 4 KiB << 13 is 32 MiB

  static size_t ClassOf(size_t size_bytes);
  void GiveBack(PoolBlock* block);
  void Trim();

  std::array<PoolBlock*, kClassCount> kept_{};
  uint64_t used_bytes_ = 0;
  uint64_t kept_bytes_ = 0;
};

}  // namespace cowl::nbd
