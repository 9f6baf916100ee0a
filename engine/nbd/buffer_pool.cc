#include "nbd/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <new>

#include "base/status.h"

namespace cowl::nbd {
namespace {

constexpr std::align_val_t kAlignment{kBlockBytes};

PoolBlock* Allocate(BufferPool* pool, size_t size_bytes) {
  auto* const data = static_cast<std::byte*>(::operator new(size_bytes, kAlignment));
  return new PoolBlock{pool, nullptr, data, static_cast<uint32_t>(size_bytes), 0};
}

void Free(PoolBlock* block) {
  ::operator delete(block->data, kAlignment);
  delete block;
}

}  // namespace

void BufferRef::Release() {
  if (block_ != nullptr && --block_->owner_count == 0) block_->pool->GiveBack(block_);
  block_ = nullptr;
}

BufferPool::~BufferPool() {
  for (PoolBlock* block : kept_) {
    while (block != nullptr) {
      PoolBlock* const next = block->next_kept;
      Free(block);
      block = next;
    }
  }
}

BufferPool& BufferPool::ForThisThread() {
  thread_local BufferPool pool;
  return pool;
}

BufferRef BufferPool::Take(size_t size_bytes) {
  COWL_CHECK(size_bytes <= kBlockBytesMax);
  const size_t size_class = ClassOf(size_bytes);
  PoolBlock* block = kept_[size_class];
  if (block != nullptr) {
    kept_[size_class] = block->next_kept;
    kept_bytes_ -= block->size_bytes;
  } else {
    block = Allocate(this, kBlockBytesMin << size_class);
  }
  block->owner_count = 1;
  used_bytes_ += block->size_bytes;
  return BufferRef(block);
}

size_t BufferPool::ClassOf(size_t size_bytes) {
  const size_t rounded = std::bit_ceil(std::max(size_bytes, kBlockBytesMin));
  return static_cast<size_t>(std::countr_zero(rounded / kBlockBytesMin));
}

void BufferPool::GiveBack(PoolBlock* block) {
  const size_t size_class = ClassOf(block->size_bytes);
  used_bytes_ -= block->size_bytes;
  kept_bytes_ += block->size_bytes;
  block->next_kept = kept_[size_class];
  kept_[size_class] = block;
  Trim();
}

// The largest first: they cost the most to keep, and the least, for their size, to make anew.
void BufferPool::Trim() {
  const uint64_t kept_bytes_max = std::max(kKeptBytesMin, used_bytes_);
  for (size_t size_class = kClassCount; size_class-- > 0 && kept_bytes_ > kept_bytes_max;) {
    while (kept_[size_class] != nullptr && kept_bytes_ > kept_bytes_max) {
      PoolBlock* const block = kept_[size_class];
      kept_[size_class] = block->next_kept;
      kept_bytes_ -= block->size_bytes;
      Free(block);
    }
  }
}

}  // namespace cowl::nbd
