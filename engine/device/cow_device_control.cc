// cow_device_control.cc: what the store does with an open device: closing, snapshots, other chains.
#include <chrono>
#include <utility>

#include "base/status.h"
#include "device/cow_device.h"

namespace cowl {
namespace {

uint64_t NowMicroseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

}  // namespace

Task<absl::Status> CowDevice::Close() {
  while (operations_ > 0) co_await operations_done_.Wait();
  if (overlay_ == nullptr) co_return absl::OkStatus();
  const absl::Status status = co_await overlay_->Close();
  // One that was being sealed stays as a crash would leave it: the next opening rolls forward.
  if (sealed_ != nullptr) co_await sealed_->EndBackground();
  co_return status;
}

Task<absl::StatusOr<uint64_t>> CowDevice::SwitchOverlay(std::unique_ptr<Overlay> successor) {
  COWL_CHECK(overlay_ != nullptr && sealed_ == nullptr);
  // What needs a sync happens before requests are held.
  COWL_CO_RETURN_IF_ERROR(co_await overlay_->PrepareToAppend());
  paused_ = true;
  const uint64_t paused_at_us = NowMicroseconds();
  while (changes_ > 0) co_await changes_done_.Wait();
  absl::StatusOr<SealMark> mark = co_await overlay_->Seal(successor->id());
  absl::Status status = mark.status();
  // Nothing of the new one may be durable before the old one's seal is.
  successor->SetPredecessor(overlay_);
  if (mark.ok()) status = co_await successor->Continue(*mark);
  if (status.ok()) {
    // From here on the old overlay takes no more records.
    sealed_ = overlay_;
    overlay_ = std::move(successor);
    below_blocks_ += sealed_->stored_blocks();  // no less; counted when the cap asks
    ++version_;
  }
  paused_ = false;
  const uint64_t pause_us = NowMicroseconds() - paused_at_us;
  resumed_.WakeAll();
  if (!status.ok()) {
    // Its journal may still be at the end of the write that failed.
    co_await successor->EndBackground();
    co_return status;
  }
  co_return pause_us;
}

Task<absl::Status> CowDevice::SealSwitched(Uuid parent, std::string created_by) {
  COWL_CHECK(sealed_ != nullptr);
  const std::shared_ptr<Overlay> sealed = sealed_;
  const std::shared_ptr<Overlay> overlay = overlay_;
  COWL_CO_RETURN_IF_ERROR(
      co_await sealed->SealToLayer(options_.size_bytes, parent, std::move(created_by)));
  overlay->SetPredecessor(nullptr);
  co_return absl::OkStatus();
}

void CowDevice::InstallChain(std::shared_ptr<const ChainMap> chain) {
  ReplaceChain(std::move(chain));
  // Also where SealSwitched did not come to its end, and its layer was found to be there.
  if (overlay_ != nullptr) overlay_->SetPredecessor(nullptr);
  sealed_ = nullptr;
  ++version_;  // what is seen below may count no more: as a named image's
}

void CowDevice::ReplaceChain(std::shared_ptr<const ChainMap> chain) {
  chain_ = std::move(chain);
  chain_files_.assign(chain_->files.size(), nullptr);
}

bool CowDevice::HaveFormerEnded() {
  while (generations_.size() > 1 && generations_.front() == 0) generations_.pop_front();
  return generations_.size() == 1;
}

BlockRanges CowDevice::HiddenIn(const ExtentArray& layer) const {
  BlockRanges hidden;
  if (overlay_ == nullptr) return hidden;
  for (const Extent& extent : layer.extents()) {
    if (!extent.is_data()) continue;
    overlay_->VisitRange(extent.start(), extent.end(), [&](const Segment& segment) {
      if (segment.kind != Segment::Kind::kAbsent) hidden.emplace_back(segment.start, segment.end());
    });
  }
  return Normalized(std::move(hidden));
}

// Looked up before the flush: what comes after that may be lost.
Task<absl::StatusOr<BlockRanges>> CowDevice::DurablyHiddenIn(const ExtentArray& layer) {
  BlockRanges hidden = HiddenIn(layer);
  COWL_CO_RETURN_IF_ERROR(co_await Flush());
  co_return hidden;
}

}  // namespace cowl
