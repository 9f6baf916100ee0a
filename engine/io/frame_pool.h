// frame_pool.h: memory for the frames of coroutines. A request takes some ten of them, of a few
// sizes, and gives them back soon; a general allocator is slow at that beyond its small cache.
// Threads: each has a pool of its own; a frame may go back to another thread's than it came from.
// Memory: each thread keeps a bounded number of frames of each size, until it ends.
#pragma once

#include <array>
#include <cstddef>
#include <new>

namespace cowl {

class FramePool {
 public:
  static void* Take(size_t bytes) {
    if (bytes > kBytesMax) return ::operator new(bytes);
    if (has_ended_) return ::operator new((ShelfOf(bytes) + 1) * kStepBytes);
    Shelf& shelf = OfThisThread().shelves_[ShelfOf(bytes)];
    if (shelf.top == nullptr) return ::operator new((ShelfOf(bytes) + 1) * kStepBytes);
    --shelf.count;
    Frame* const frame = shelf.top;
    shelf.top = frame->below;
    return frame;
  }

  static void GiveBack(void* memory, size_t bytes) {
    if (bytes > kBytesMax || has_ended_) return ::operator delete(memory);
    Shelf& shelf = OfThisThread().shelves_[ShelfOf(bytes)];
    if (shelf.count == kFramesMax) return ::operator delete(memory);
    ++shelf.count;
    shelf.top = new (memory) Frame{shelf.top};
  }

 private:
  static constexpr size_t kStepBytes = 64;
  static constexpr size_t kBytesMax = 1024;
  static constexpr size_t kFramesMax = 128;

  struct Frame {
    Frame* below;
  };
  struct Shelf {
    Frame* top = nullptr;
    size_t count = 0;
  };

  FramePool() = default;
  ~FramePool() {
    has_ended_ = true;
    for (Shelf& shelf : shelves_) {
      while (shelf.top != nullptr) {
        Frame* const frame = shelf.top;
        shelf.top = frame->below;
        ::operator delete(frame);
      }
    }
  }

  static FramePool& OfThisThread() {
    thread_local FramePool pool;
    return pool;
  }
  static size_t ShelfOf(size_t bytes) { return (bytes - 1) / kStepBytes; }

  // Later destructors of a thread may still end coroutines.
  static inline thread_local bool has_ended_ = false;

  std::array<Shelf, kBytesMax / kStepBytes> shelves_;
};

}  // namespace cowl
