#include "device/cow_device.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

constexpr uint64_t kPieceBlocks = JournalRecord::kBlocksMax;

// Zeros are stored as a hole where a write is nothing else, or has this many blocks of them in a
// row: fewer between data would each cost a record and an extent, more than their space is worth.
constexpr uint64_t kZeroRunBlocksMin = 8;

uint64_t NowMicroseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

// A range of bytes as the blocks that it covers whole and its ragged ends.
struct SplitRange {
  uint64_t head_bytes;   // up to the first whole block
  uint64_t begin_block;  // whole blocks
  uint64_t end_block;
  uint64_t tail_bytes;  // after the last whole block

  SplitRange(uint64_t offset_bytes, uint64_t length_bytes) {
    const uint64_t end = offset_bytes + length_bytes;
    begin_block = BlocksCeil(offset_bytes);
    end_block = BlocksFloor(end);
    if (begin_block > end_block) {  // within one block
      head_bytes = length_bytes;
      end_block = begin_block;
      tail_bytes = 0;
      return;
    }
    head_bytes = BlockOffsetBytes(begin_block) - offset_bytes;
    tail_bytes = end - BlockOffsetBytes(end_block);
  }
};

// Cuts the whole blocks of a write into runs: data, a record's worth at most, and zeros. Of a block
// that does not begin with zero it reads the first byte only.
class RunCutter {
 public:
  struct Run {
    uint64_t blocks;
    bool is_zero;
  };

  RunCutter(std::span<const std::byte> data, bool find_zeros)
      : rest_(data), run_min_(find_zeros ? std::min(kZeroRunBlocksMin, Count()) : UINT64_MAX) {}

  bool done() const { return rest_.empty(); }

  // REQUIRES: !done()
  Run Next() {
    if (data_left_ == 0) data_left_ = BlocksBeforeZeros();
    const bool is_zero = data_left_ == 0;
    const uint64_t blocks = is_zero ? ZerosAtStart() : std::min(kPieceBlocks, data_left_);
    if (!is_zero) data_left_ -= blocks;
    rest_ = rest_.subspan(BlockOffsetBytes(blocks));
    return {blocks, is_zero};
  }

 private:
  uint64_t Count() const { return BlocksFloor(rest_.size()); }
  bool IsZeroBlock(uint64_t index) const {
    return IsZero(rest_.subspan(BlockOffsetBytes(index), kBlockBytes));
  }
  // How many blocks there are before the first run of zeros that counts.
  uint64_t BlocksBeforeZeros() const {
    const uint64_t count = Count();
    uint64_t zeros = 0;
    for (uint64_t i = 0; i < count && run_min_ <= count; ++i) {
      zeros = IsZeroBlock(i) ? zeros + 1 : 0;
      if (zeros == run_min_) return i + 1 - run_min_;
    }
    return count;
  }
  uint64_t ZerosAtStart() const {
    uint64_t zeros = 0;
    while (zeros < Count() && IsZeroBlock(zeros)) ++zeros;
    return zeros;
  }

  std::span<const std::byte> rest_;
  const uint64_t run_min_;
  uint64_t data_left_ = 0;
};

}  // namespace

// One piece of a lookup: where it was found.
struct CowDevice::Piece {
  enum class Level : uint8_t { kNowhere, kOverlay, kSealed, kChain };
  Segment segment;
  Level level = Level::kNowhere;
};

// Counts a request while it is under way; a change also as such.
class CowDevice::Operation {
 public:
  Operation(CowDevice& device, bool is_change) : device_(device), is_change_(is_change) {
    ++device_.operations_;
    if (is_change_) ++device_.changes_;
  }
  ~Operation() {
    if (is_change_) device_.EndChange();
    if (--device_.operations_ == 0) device_.operations_done_.WakeAll();
  }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

 private:
  CowDevice& device_;
  const bool is_change_;
};

CowDevice::CowDevice(DataFileCache& files, std::shared_ptr<const ChainMap> chain,
                     std::unique_ptr<Overlay> overlay, CowDeviceOptions options)
    : files_(files),
      options_(std::move(options)),
      overlay_(std::move(overlay)),
      chain_(chain != nullptr ? std::move(chain) : std::make_shared<const ChainMap>()),
      chain_files_(chain_->files.size()) {
  CountBelow();
}

CowDevice::~CowDevice() = default;

absl::Status CowDevice::CheckRange(uint64_t offset_bytes, uint64_t length_bytes) const {
  if (offset_bytes <= options_.size_bytes && length_bytes <= options_.size_bytes - offset_bytes)
    return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(options_.name, ": bytes ", offset_bytes, " to ",
                                            offset_bytes + length_bytes, " lie beyond the end at ",
                                            options_.size_bytes));
}

absl::Status CowDevice::CheckWritable(uint64_t offset_bytes, uint64_t length_bytes) const {
  if (options_.read_only)
    return absl::PermissionDeniedError(absl::StrCat(options_.name, ": is read-only"));
  return CheckRange(offset_bytes, length_bytes);
}

uint64_t CowDevice::stored_blocks() const {
  return (overlay_ ? overlay_->stored_blocks() : 0) + (sealed_ ? sealed_->stored_blocks() : 0);
}

void CowDevice::SetCap(DeviceCap cap) {
  options_.cap = std::move(cap);
  CountBelow();
}

void CowDevice::EndChange() {
  ++version_;
  if (watch_) std::exchange(watch_, nullptr)();
  if (--changes_ == 0) changes_done_.WakeAll();
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

// Data blocks of [begin, end) that are read from layers of the device's own.
uint64_t CowDevice::SeenOfOwnLayers(uint64_t begin, uint64_t end) const {
  const std::vector<Uuid>& own = options_.cap.own_layers;
  if (own.empty()) return 0;
  std::vector<Piece> pieces;
  uint64_t blocks = 0;
  chain_->extents.VisitRange(begin, end, [&](const Segment& segment) {
    if (segment.kind != Segment::Kind::kData) return;
    const Uuid& layer = chain_->layers[chain_->sources[segment.source].layer_index];
    if (std::find(own.begin(), own.end(), layer) == own.end()) return;
    pieces.clear();
    LookUp(segment.start, segment.end(), &pieces);
    for (const Piece& piece : pieces) {
      if (piece.level == Piece::Level::kChain) blocks += piece.segment.length;
    }
  });
  return blocks;
}

void CowDevice::CountBelow() {
  if (options_.cap.blocks_max == 0) return;
  below_blocks_ = SeenOfOwnLayers(0, BlocksCeil(options_.size_bytes));
  below_version_ = version_;
}

// --- Reading

Task<absl::Status> CowDevice::Read(uint64_t offset_bytes, std::span<std::byte> into) {
  COWL_CO_RETURN_IF_ERROR(CheckRange(offset_bytes, into.size()));
  const Operation operation(*this, /*is_change=*/false);
  std::vector<std::byte> bounce;
  while (!into.empty()) {
    const uint64_t block = BlocksFloor(offset_bytes);
    const uint64_t within = offset_bytes % kBlockBytes;
    uint64_t count;
    if (within == 0 && into.size() >= kBlockBytes) {
      count = BlockOffsetBytes(std::min(kPieceBlocks, BlocksFloor(into.size())));
      COWL_CO_RETURN_IF_ERROR(co_await ReadBlocks(block, into.first(count)));
    } else {
      // Blocks are read whole, since that is what their checksums cover.
      bounce.resize(kBlockBytes);
      count = std::min<uint64_t>(kBlockBytes - within, into.size());
      COWL_CO_RETURN_IF_ERROR(co_await ReadBlocks(block, bounce));
      std::memcpy(into.data(), bounce.data() + within, count);
    }
    into = into.subspan(count);
    offset_bytes += count;
  }
  co_return absl::OkStatus();
}

void CowDevice::LookUp(uint64_t begin, uint64_t end, std::vector<Piece>* pieces) const {
  const auto in_chain = [&](const Segment& gap) {
    chain_->extents.VisitRange(gap.start, gap.end(), [&](const Segment& segment) {
      const bool found = segment.kind != Segment::Kind::kAbsent;
      pieces->push_back({segment, found ? Piece::Level::kChain : Piece::Level::kNowhere});
    });
  };
  const auto in_sealed = [&](const Segment& gap) {
    if (sealed_ == nullptr) return in_chain(gap);
    sealed_->VisitRange(gap.start, gap.end(), [&](const Segment& segment) {
      if (segment.kind == Segment::Kind::kAbsent) return in_chain(segment);
      pieces->push_back({segment, Piece::Level::kSealed});
    });
  };
  if (overlay_ == nullptr) return in_sealed(Segment{begin, end - begin});
  overlay_->VisitRange(begin, end, [&](const Segment& segment) {
    if (segment.kind == Segment::Kind::kAbsent) return in_sealed(segment);
    pieces->push_back({segment, Piece::Level::kOverlay});
  });
}

namespace {

// Keeps the slots that a lookup named from being used again until the read is done.
class ReadTicket {
 public:
  explicit ReadTicket(std::shared_ptr<Overlay> overlay) : overlay_(std::move(overlay)) {
    if (overlay_) ticket_ = overlay_->EnterRead();
  }
  ~ReadTicket() {
    if (overlay_) overlay_->LeaveRead(ticket_);
  }
  ReadTicket(const ReadTicket&) = delete;
  ReadTicket& operator=(const ReadTicket&) = delete;
  Overlay* overlay() const { return overlay_.get(); }

 private:
  const std::shared_ptr<Overlay> overlay_;
  uint64_t ticket_ = 0;
};

}  // namespace

Task<absl::Status> CowDevice::ReadBlocks(uint64_t block, std::span<std::byte> into) {
  const ReadTicket overlay(overlay_);
  const ReadTicket sealed(sealed_);
  const std::shared_ptr<const ChainMap> chain = chain_;
  std::vector<Piece> pieces;
  LookUp(block, block + BlocksFloor(into.size()), &pieces);
  for (const Piece& piece : pieces) {
    const Segment& segment = piece.segment;
    const std::span<std::byte> part =
        into.subspan(BlockOffsetBytes(segment.start - block), BlockOffsetBytes(segment.length));
    absl::Status status;
    if (segment.kind != Segment::Kind::kData) {
      std::memset(part.data(), 0, part.size());
    } else if (piece.level == Piece::Level::kChain) {
      status = co_await ReadChain(*chain, segment, part);
    } else {
      Overlay* const from =
          piece.level == Piece::Level::kOverlay ? overlay.overlay() : sealed.overlay();
      status = co_await from->ReadSlots(segment.physical, part);
    }
    if (!status.ok()) {
      co_return Annotate(status, absl::StrCat(options_.name, ": read of block ", segment.start));
    }
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::ReadChain(const ChainMap& chain, const Segment& segment,
                                        std::span<std::byte> into) {
  const uint32_t index = chain.sources[segment.source].file_index;
  std::shared_ptr<DataFile> file = &chain == chain_.get() ? chain_files_[index] : nullptr;
  if (file == nullptr) {
    absl::StatusOr<std::shared_ptr<DataFile>> opened = co_await files_.Get(chain.files[index]);
    if (!opened.ok()) co_return opened.status();
    file = *opened;
    if (&chain == chain_.get()) chain_files_[index] = file;
  }
  co_return co_await file->Read(segment.physical, into);
}

Task<absl::Status> CowDevice::OpenChainFiles() {
  for (size_t i = 0; i < chain_files_.size(); ++i) {
    absl::StatusOr<std::shared_ptr<DataFile>> opened = co_await files_.Get(chain_->files[i]);
    if (!opened.ok()) co_return opened.status();
    chain_files_[i] = *std::move(opened);
  }
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::Prefetch(uint64_t offset_bytes, uint64_t length_bytes) {
  COWL_CO_RETURN_IF_ERROR(CheckRange(offset_bytes, length_bytes));
  std::vector<std::byte> bytes;
  while (length_bytes > 0) {
    bytes.resize(std::min<uint64_t>(length_bytes, BlockOffsetBytes(kPieceBlocks)));
    COWL_CO_RETURN_IF_ERROR(co_await Read(offset_bytes, bytes));
    offset_bytes += bytes.size();
    length_bytes -= bytes.size();
  }
  co_return absl::OkStatus();
}

absl::StatusOr<std::vector<MapExtent>> CowDevice::Map(uint64_t offset_bytes, uint64_t length_bytes,
                                                      size_t extents_max) {
  COWL_RETURN_IF_ERROR(CheckRange(offset_bytes, length_bytes));
  // Looked up window by window, so that a short answer about a large disk stays cheap.
  constexpr uint64_t kWindowBlocks = 1 << 20;
  const uint32_t chain_depth =
      (options_.read_only && overlay_ == nullptr ? 1 : 2) + (sealed_ != nullptr ? 1 : 0);
  const uint64_t end_bytes = offset_bytes + length_bytes;
  const uint64_t end_block = BlocksCeil(end_bytes);
  std::vector<MapExtent> extents;
  std::vector<Piece> pieces;
  for (uint64_t block = BlocksFloor(offset_bytes); block < end_block;) {
    const uint64_t window_end = std::min(end_block, block + kWindowBlocks);
    pieces.clear();
    LookUp(block, window_end, &pieces);
    for (const Piece& piece : pieces) {
      const uint64_t begin = std::max(offset_bytes, BlockOffsetBytes(piece.segment.start));
      const uint64_t end = std::min(end_bytes, BlockOffsetBytes(piece.segment.end()));
      const auto type = piece.segment.kind == Segment::Kind::kData ? MapExtent::Type::kData
                                                                   : MapExtent::Type::kZero;
      uint32_t depth = 0;
      if (piece.level == Piece::Level::kOverlay) depth = 1;
      if (piece.level == Piece::Level::kSealed) depth = 2;
      if (piece.level == Piece::Level::kChain)
        depth = chain_depth + chain_->sources[piece.segment.source].layer_index;
      if (!extents.empty() && extents.back().type == type && extents.back().depth == depth) {
        extents.back().length_bytes += end - begin;
        continue;
      }
      if (extents.size() == extents_max) return extents;
      extents.push_back({begin, end - begin, type, depth});
    }
    block = window_end;
  }
  return extents;
}

// --- Changing

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
    return below_blocks_ + stored_blocks() + cap_reserved_blocks_ + added > blocks_max;
  };
  if (added > 0 && is_too_much()) {
    added -= SeenOfOwnLayers(block, block + blocks);  // hidden by this write
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
  }
  cap_reserved_blocks_ -= reserved;
  co_return status;
}

Task<absl::Status> CowDevice::Flush() {
  const Operation operation(*this, /*is_change=*/false);
  const std::shared_ptr<Overlay> sealed = sealed_;
  const std::shared_ptr<Overlay> overlay = overlay_;
  if (sealed != nullptr) COWL_CO_RETURN_IF_ERROR(co_await sealed->Flush());
  if (overlay != nullptr) COWL_CO_RETURN_IF_ERROR(co_await overlay->Flush());
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
    COWL_CO_RETURN_IF_ERROR(co_await EnsureOverlay());
    if (split.begin_block < end_block)
      COWL_CO_RETURN_IF_ERROR(co_await ZeroBlocks(split.begin_block, end_block));
  }
  if (options.fua) co_return co_await Flush();
  co_return absl::OkStatus();
}

Task<absl::Status> CowDevice::ZeroBlocks(uint64_t begin, uint64_t end) {
  const RangeLock::Guard guard = co_await locks_.Lock(begin, end, /*exclusive=*/false);
  co_return co_await overlay_->Zero(begin, end - begin);
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
    COWL_CO_RETURN_IF_ERROR(co_await EnsureOverlay());
    if (options.no_hole) {
      COWL_CO_RETURN_IF_ERROR(co_await WriteZeroData(offset_bytes, length_bytes));
    } else {
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

// --- Control

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
}

void CowDevice::ReplaceChain(std::shared_ptr<const ChainMap> chain) {
  chain_ = std::move(chain);
  chain_files_.assign(chain_->files.size(), nullptr);
}

}  // namespace cowl
