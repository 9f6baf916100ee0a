#include "device/cow_device.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {

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

void CowDevice::ExpectReads(std::span<const uint64_t> offsets_bytes) const {
  constexpr size_t kAtOnce = 16;
  const ExtentArray& map = chain_->extents;
  std::array<uint64_t, kAtOnce> blocks;
  std::array<size_t, kAtOnce> found;
  while (!offsets_bytes.empty()) {
    const size_t count = std::min(kAtOnce, offsets_bytes.size());
    for (size_t i = 0; i < count; ++i) blocks[i] = BlocksFloor(offsets_bytes[i]);
    map.FindEach(std::span(blocks).first(count), found);
    for (size_t i = 0; i < count; ++i) {
      if (found[i] == map.size()) continue;
      const Extent& extent = map.extents()[found[i]];
      if (extent.is_data() && extent.start() <= blocks[i])
        ExpectInChain(extent.source(), extent.physical() + blocks[i] - extent.start());
    }
    offsets_bytes = offsets_bytes.subspan(count);
  }
}

void CowDevice::ExpectInChain(uint64_t source, uint64_t physical) const {
  const DataFile* const file = chain_files_[chain_->sources[source].file_index].get();
  if (file != nullptr) file->ExpectRead(physical);
}

void CowDevice::ExpectPieces(const Pieces& pieces) const {
  for (const Piece& piece : pieces) {
    if (piece.level == Piece::Level::kChain && piece.segment.kind == Segment::Kind::kData)
      ExpectInChain(piece.segment.source, piece.segment.physical);
  }
}

void CowDevice::LookUp(uint64_t begin, uint64_t end, Pieces* pieces) const {
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
  Pieces pieces;
  LookUp(block, block + BlocksFloor(into.size()), &pieces);
  if (pieces.size() > 1) ExpectPieces(pieces);
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
  Pieces pieces;
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

}  // namespace cowl
