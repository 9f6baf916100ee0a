// cow_device_write.cc: writes, discards, zeros, and the cap on what they store.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "device/cow_device.h"
#include "device/write_runs.h"

namespace cowl {

// Waits while a snapshot switches overlays; the caller counts its Operation right after.
Task<void> CowDevice::BeginChange() {
  while (paused_) co_await resumed_.Wait();
}

// Between two pieces of one change: a snapshot need not wait for a long one to end. What is done of
// it goes with the snapshot and the rest comes after it, as for requests that have no answer yet.
Task<void> CowDevice::LetSwitchPass() {
  if (--changes_ == 0) changes_done_.WakeAll();
  while (paused_) co_await resumed_.Wait();
  ++changes_;
}

// The overlay is made at the first change: a device that was never written needs no file.
Task<absl::Status> CowDevice::EnsureOverlay() {
  while (making_overlay_) co_await overlay_made_.Wait();
  if (overlay_ != nullptr) co_return absl::OkStatus();
  making_overlay_ = true;
  absl::StatusOr<std::unique_ptr<Overlay>> made = co_await options_.make_overlay();
  if (made.ok()) overlay_ = *std::move(made);
  making_overlay_ = false;
  overlay_made_.WakeAll();
  co_return made.status();
}

// A discard makes room: want of room must not keep it from that.
Task<absl::Status> CowDevice::EnsureOverlayToZero() {
  absl::Status status = co_await EnsureOverlay();
  if (!absl::IsResourceExhausted(status) || !options_.make_room) co_return status;
  co_await options_.make_room();
  co_return co_await EnsureOverlay();
}

Task<absl::Status> CowDevice::Write(uint64_t offset_bytes, std::span<const std::byte> from,
                                    WriteOptions options) {
  COWL_CO_RETURN_IF_ERROR(CheckWritable(offset_bytes, from.size()));
  co_await BeginChange();
  {
    const Operation operation(*this, /*is_change=*/true);
    COWL_CO_RETURN_IF_ERROR(co_await EnsureOverlay());
    COWL_CO_RETURN_IF_ERROR(co_await WriteRange(offset_bytes, from, Zeros::kAsHole));
  }
  if (options.fua) co_return co_await Flush();
  co_return absl::OkStatus();
}

// Old kernels' nbd has no write-zeroes: the tables that a file system zeroes come as plain data.
Task<absl::Status> CowDevice::WriteRange(uint64_t offset_bytes, std::span<const std::byte> from,
                                         Zeros zeros) {
  const SplitRange split(offset_bytes, from.size());
  if (split.head_bytes > 0) {
    COWL_CO_RETURN_IF_ERROR(co_await WritePartial(offset_bytes, from.first(split.head_bytes)));
  }
  uint64_t block = split.begin_block;
  std::span<const std::byte> whole = from.subspan(split.head_bytes);
  whole = whole.first(BlockOffsetBytes(split.end_block - block));
  for (RunCutter cutter(whole, zeros == Zeros::kAsHole); !cutter.done();) {
    if (paused_) co_await LetSwitchPass();
    const RunCutter::Run run = cutter.Next();
    if (run.is_zero) {
      COWL_CO_RETURN_IF_ERROR(co_await ZeroBlocks(block, block + run.blocks));
    } else {
      COWL_CO_RETURN_IF_ERROR(
          co_await WriteBlocks(block, whole.first(BlockOffsetBytes(run.blocks))));
    }
    whole = whole.subspan(BlockOffsetBytes(run.blocks));
    block += run.blocks;
  }
  if (split.tail_bytes > 0) {
    COWL_CO_RETURN_IF_ERROR(
        co_await WritePartial(BlockOffsetBytes(block), from.last(split.tail_bytes)));
  }
  co_return absl::OkStatus();
}

// The cap counts live blocks: those there are, and those that writes in flight may add. What was
// seen of the layers below is counted again only when it decides: it never grows.
absl::Status CowDevice::ReserveForCap(uint64_t block, uint64_t blocks, uint64_t* reserved) {
  const uint64_t blocks_max = options_.cap.blocks_max;
  if (blocks_max == 0) return absl::OkStatus();
  uint64_t added = blocks - overlay_->StoredIn(block, block + blocks);
  const auto is_too_much = [&] {
    return below_blocks_ + overlay_->stored_blocks() + cap_reserved_blocks_ + added > blocks_max;
  };
  if (added > 0 && is_too_much()) {
    added -= SeenBelow(block, block + blocks);  // hidden by this write
    if (below_version_ != version_ && added > 0 && is_too_much()) CountBelow();
    if (added > 0 && is_too_much()) {
      return OutOfSpace(absl::StrCat(options_.name, ": its cap of ", BlockOffsetBytes(blocks_max),
                                     " bytes is reached; discard makes room"));
    }
  }
  *reserved = added;
  cap_reserved_blocks_ += added;
  return absl::OkStatus();
}

Task<absl::Status> CowDevice::WriteBlocks(uint64_t block, std::span<const std::byte> data) {
  const uint64_t blocks = BlocksFloor(data.size());
  const RangeLock::Guard guard = co_await locks_.Lock(block, block + blocks, /*exclusive=*/false);
  uint64_t reserved = 0;
  COWL_CO_RETURN_IF_ERROR(ReserveForCap(block, blocks, &reserved));
  const absl::Status status = co_await overlay_->Write(block, data);
  if (status.ok()) ++version_;
  cap_reserved_blocks_ -= reserved;
  co_return status;
}

// Part of one block: the rest of it is read first, and nobody else changes the block meanwhile.
Task<absl::Status> CowDevice::WritePartial(uint64_t offset_bytes, std::span<const std::byte> from) {
  const uint64_t block = BlocksFloor(offset_bytes);
  const RangeLock::Guard guard = co_await locks_.Lock(block, block + 1, /*exclusive=*/true);
  uint64_t reserved = 0;
  COWL_CO_RETURN_IF_ERROR(ReserveForCap(block, 1, &reserved));
  std::vector<std::byte> whole(kBlockBytes);
  absl::Status status = co_await ReadBlocks(block, whole);
  if (status.ok()) {
    std::memcpy(whole.data() + offset_bytes % kBlockBytes, from.data(), from.size());
    status = co_await overlay_->Write(block, whole);
    if (status.ok()) ++version_;
  }
  cap_reserved_blocks_ -= reserved;
  co_return status;
}

Task<absl::Status> CowDevice::Flush() {
  const Operation operation(*this, /*is_change=*/false);
  const std::shared_ptr<Overlay> sealed = sealed_;
  const std::shared_ptr<Overlay> overlay = overlay_;
  if (sealed != nullptr) COWL_CO_RETURN_IF_ERROR(co_await sealed->Flush());
  // Nobody but the asker, and whoever comes right now, waits then.
  const bool is_alone = traffic_.OthersWereQuiet() && operations_ == 1;
  const SyncPlace place = is_alone ? SyncPlace::kOnLoopWhereFast : SyncPlace::kAside;
  if (overlay != nullptr) COWL_CO_RETURN_IF_ERROR(co_await overlay->Flush(place));
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::Discard(uint64_t offset_bytes, uint64_t length_bytes,
                                      WriteOptions options) {
  COWL_CO_RETURN_IF_ERROR(CheckWritable(offset_bytes, length_bytes));
  co_await BeginChange();
  {
    const Operation operation(*this, /*is_change=*/true);
    const SplitRange split(offset_bytes, length_bytes);
    // The last block of a disk that ends within one is whole when the discard reaches the end.
    const bool reaches_end = offset_bytes + length_bytes == options_.size_bytes;
    const uint64_t end_block = reaches_end ? BlocksCeil(options_.size_bytes) : split.end_block;
    COWL_CO_RETURN_IF_ERROR(co_await EnsureOverlayToZero());
    if (split.begin_block < end_block)
      COWL_CO_RETURN_IF_ERROR(co_await ZeroBlocks(split.begin_block, end_block));
  }
  if (options.fua) co_return co_await Flush();
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::ZeroBlocks(uint64_t begin, uint64_t end) {
  const RangeLock::Guard guard = co_await locks_.Lock(begin, end, /*exclusive=*/false);
  absl::Status status = co_await overlay_->Zero(begin, end - begin);
  if (absl::IsResourceExhausted(status) && options_.make_room) {
    co_await options_.make_room();
    status = co_await overlay_->Zero(begin, end - begin);
  }
  if (status.ok()) ++version_;
  co_return status;
}

Task<absl::Status> CowDevice::WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                          ZeroOptions options) {
  COWL_CO_RETURN_IF_ERROR(CheckWritable(offset_bytes, length_bytes));
  if (options.no_hole && options.fast_only) {
    co_return Unimplemented(
        absl::StrCat(options_.name, ": zeros that stay allocated are no faster than writing them"));
  }
  co_await BeginChange();
  {
    const Operation operation(*this, /*is_change=*/true);
    if (options.no_hole) {
      COWL_CO_RETURN_IF_ERROR(co_await EnsureOverlay());
      COWL_CO_RETURN_IF_ERROR(co_await WriteZeroData(offset_bytes, length_bytes));
    } else {
      COWL_CO_RETURN_IF_ERROR(co_await EnsureOverlayToZero());
      COWL_CO_RETURN_IF_ERROR(co_await ZeroRange(offset_bytes, length_bytes));
    }
  }
  if (options.fua) co_return co_await Flush();
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::ZeroRange(uint64_t offset_bytes, uint64_t length_bytes) {
  const SplitRange split(offset_bytes, length_bytes);
  if (split.head_bytes > 0)
    COWL_CO_RETURN_IF_ERROR(co_await WriteZeroData(offset_bytes, split.head_bytes));
  if (split.begin_block < split.end_block) {
    COWL_CO_RETURN_IF_ERROR(co_await ZeroBlocks(split.begin_block, split.end_block));
  }
  if (split.tail_bytes > 0) {
    COWL_CO_RETURN_IF_ERROR(
        co_await WriteZeroData(BlockOffsetBytes(split.end_block), split.tail_bytes));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::WriteZeroData(uint64_t offset_bytes, uint64_t length_bytes) {
  const std::vector<std::byte> zeros(
      std::min<uint64_t>(length_bytes, BlockOffsetBytes(kPieceBlocks)));
  while (length_bytes > 0) {
    const uint64_t count = std::min<uint64_t>(length_bytes, zeros.size());
    const std::span<const std::byte> part(zeros.data(), count);
    COWL_CO_RETURN_IF_ERROR(co_await WriteRange(offset_bytes, part, Zeros::kAsData));
    offset_bytes += count;
    length_bytes -= count;
  }
  co_return absl::OkStatus();
}

void CowDevice::EndChange() {
  if (watch_) std::exchange(watch_, nullptr)();
  if (--changes_ == 0) changes_done_.WakeAll();
}

void CowDevice::SetCap(DeviceCap cap) {
  if (cap == options_.cap) return;
  options_.cap = std::move(cap);
  CountBelow();
}

// Data blocks of [begin, end) that the device stores below its overlay: in one that is being
// sealed, and in layers of its own.
uint64_t CowDevice::SeenBelow(uint64_t begin, uint64_t end) const {
  const std::vector<Uuid>& own = options_.cap.own_layers;
  if (own.empty() && sealed_ == nullptr) return 0;
  Pieces pieces;
  LookUp(begin, end, &pieces);
  uint64_t blocks = 0;
  for (const Piece& piece : pieces) {
    if (piece.segment.kind != Segment::Kind::kData) continue;
    bool counts = piece.level == Piece::Level::kSealed;
    if (piece.level == Piece::Level::kChain) {
      const Uuid& layer = chain_->layers[chain_->sources[piece.segment.source].layer_index];
      counts = std::find(own.begin(), own.end(), layer) != own.end();
    }
    if (counts) blocks += piece.segment.length;
  }
  return blocks;
}

void CowDevice::CountBelow() {
  if (options_.cap.blocks_max == 0) return;
  below_blocks_ = SeenBelow(0, BlocksCeil(options_.size_bytes));
  below_version_ = version_;
}

}  // namespace cowl
