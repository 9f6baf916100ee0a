#include "store/loop_pool.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {

LoopPool::~LoopPool() {
  for (std::unique_ptr<LoopSlot>& slot : slots_) {
    if (slot == nullptr) continue;
    slot->files.reset();
    slot->storage.reset();
    slot->thread.reset();  // drains and joins
  }
}

absl::StatusOr<LoopSlot*> LoopPool::Started(size_t index) {
  if (slots_[index] == nullptr) {
    auto slot = std::make_unique<LoopSlot>();
    COWL_ASSIGN_OR_RETURN(slot->thread,
                          LoopThread::Start(backend_, absl::StrCat("cowl-loop-", index)));
    slot->storage = slot->loop().OpenStorage(directory_);
    slot->files = std::make_unique<DataFileCache>(*slot->storage);
    slots_[index] = std::move(slot);
  }
  return slots_[index].get();
}

absl::StatusOr<LoopSlot*> LoopPool::Enter() {
  std::lock_guard lock(mutex_);
  size_t best = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i] == nullptr) {
      best = i;
      break;
    }
    if (slots_[i]->device_count < slots_[best]->device_count) best = i;
  }
  // Do not start a thread while an idle one is there.
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i] != nullptr && slots_[i]->device_count == 0) best = i;
  }
  COWL_ASSIGN_OR_RETURN(LoopSlot* const slot, Started(best));
  ++slot->device_count;
  return slot;
}

void LoopPool::Leave(LoopSlot* slot) {
  std::lock_guard lock(mutex_);
  --slot->device_count;
}

absl::StatusOr<LoopSlot*> LoopPool::Any() {
  std::lock_guard lock(mutex_);
  return Started(0);
}

bool LoopPool::OnALoop() {
  std::lock_guard lock(mutex_);
  for (const std::unique_ptr<LoopSlot>& slot : slots_) {
    if (slot != nullptr && slot->loop().OnLoop()) return true;
  }
  return false;
}

}  // namespace cowl
