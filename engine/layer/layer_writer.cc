#include "layer/layer_writer.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"
#include "format/checksum_page.h"
#include "layer/extent_array.h"
#include "layer/layer.h"
#include "layer/range_map.h"
#include "layer/section_writer.h"

namespace cowl {
namespace {

class FileLayerWriter : public LayerWriter {
 public:
  FileLayerWriter(std::unique_ptr<File> file, const LayerWriterOptions& options)
      : file_(std::move(file)), options_(options) {}

  Task<absl::Status> Write(uint64_t block, std::span<const std::byte> data) override;
  Task<absl::Status> Zero(uint64_t begin_block, uint64_t end_block) override;
  Task<absl::Status> Read(uint64_t block, std::span<std::byte> into) override;
  Task<absl::StatusOr<LayerSummary>> Finish() override;

 private:
  Task<absl::Status> WriteRun(uint64_t block, std::span<const std::byte> data);
  Task<absl::Status> WriteSlots(uint64_t physical, std::span<const std::byte> data);
  Task<absl::StatusOr<Section>> WriteSums();
  ExtentArray FinalMap() const;
  absl::Status CheckRange(uint64_t begin, uint64_t end) const;

  const std::unique_ptr<File> file_;
  const LayerWriterOptions options_;
  RangeMap map_;
  std::vector<uint64_t> sums_;  // of the blocks from kFirstFreeBlock on
  uint64_t next_block_ = Superblock::kFirstFreeBlock;
};

absl::Status FileLayerWriter::CheckRange(uint64_t begin, uint64_t end) const {
  if (begin <= end && end <= BlocksCeil(options_.size_bytes)) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat("blocks ", begin, " to ", end, " of a layer of ",
                                            options_.size_bytes, " bytes"));
}

Task<absl::Status> FileLayerWriter::Write(uint64_t block, std::span<const std::byte> data) {
  const size_t count = data.size() / kBlockBytes;
  COWL_CO_RETURN_IF_ERROR(CheckRange(block, block + count));
  for (size_t i = 0; i < count;) {
    const bool zero = IsZero(data.subspan(i * kBlockBytes, kBlockBytes));
    size_t end = i + 1;
    while (end < count && IsZero(data.subspan(end * kBlockBytes, kBlockBytes)) == zero) ++end;
    if (zero) {
      map_.Set({block + i, end - i, Segment::Kind::kZero});
    } else {
      COWL_CO_RETURN_IF_ERROR(
          co_await WriteRun(block + i, data.subspan(i * kBlockBytes, (end - i) * kBlockBytes)));
    }
    i = end;
  }
  co_return absl::OkStatus();
}

// No block of the run is zero. Blocks that have a slot keep it, the others get new ones.
Task<absl::Status> FileLayerWriter::WriteRun(uint64_t block, std::span<const std::byte> data) {
  std::vector<Segment> pieces;
  map_.VisitRange(block, block + data.size() / kBlockBytes,
                  [&](const Segment& piece) { pieces.push_back(piece); });
  for (Segment piece : pieces) {
    if (piece.kind != Segment::Kind::kData) {
      piece.kind = Segment::Kind::kData;
      piece.physical = next_block_;
      next_block_ += piece.length;
      sums_.resize(next_block_ - Superblock::kFirstFreeBlock);
      map_.Set(piece);
    }
    const size_t offset = (piece.start - block) * kBlockBytes;
    COWL_CO_RETURN_IF_ERROR(
        co_await WriteSlots(piece.physical, data.subspan(offset, piece.length * kBlockBytes)));
  }
  co_return absl::OkStatus();
}

Task<absl::Status> FileLayerWriter::WriteSlots(uint64_t physical, std::span<const std::byte> data) {
  for (size_t i = 0; i * kBlockBytes < data.size(); ++i) {
    sums_[physical - Superblock::kFirstFreeBlock + i] =
        Xxh3(data.subspan(i * kBlockBytes, kBlockBytes));
  }
  co_return co_await file_->Write(BlockOffsetBytes(physical), data);
}

Task<absl::Status> FileLayerWriter::Zero(uint64_t begin_block, uint64_t end_block) {
  COWL_CO_RETURN_IF_ERROR(CheckRange(begin_block, end_block));
  if (begin_block < end_block)
    map_.Set({begin_block, end_block - begin_block, Segment::Kind::kZero});
  co_return absl::OkStatus();
}

Task<absl::Status> FileLayerWriter::Read(uint64_t block, std::span<std::byte> into) {
  const size_t count = into.size() / kBlockBytes;
  COWL_CO_RETURN_IF_ERROR(CheckRange(block, block + count));
  std::vector<Segment> pieces;
  map_.VisitRange(block, block + count, [&](const Segment& piece) { pieces.push_back(piece); });
  for (const Segment& piece : pieces) {
    const std::span<std::byte> part =
        into.subspan((piece.start - block) * kBlockBytes, piece.length * kBlockBytes);
    if (piece.kind != Segment::Kind::kData) {
      std::fill(part.begin(), part.end(), std::byte{0});
      continue;
    }
    COWL_CO_RETURN_IF_ERROR(co_await file_->Read(BlockOffsetBytes(piece.physical), part));
    const std::span<const uint64_t> sums(
        sums_.data() + (piece.physical - Superblock::kFirstFreeBlock), piece.length);
    COWL_CO_RETURN_IF_ERROR(VerifyBlocks(part, sums, piece.physical, file_->path()));
  }
  co_return absl::OkStatus();
}

// Writes the checksum pages and returns the section of the table that places them.
Task<absl::StatusOr<Section>> FileLayerWriter::WriteSums() {
  std::vector<uint64_t> page_blocks;
  std::vector<std::byte> pages;
  const uint64_t data_end = next_block_;
  for (uint64_t index = 0; index * kSumsPerPage < data_end && !sums_.empty(); ++index) {
    pages.resize(pages.size() + kBlockBytes);
    const std::span<std::byte> page = std::span(pages).last(kBlockBytes);
    const uint64_t from = std::max(index * kSumsPerPage, Superblock::kFirstFreeBlock);
    const uint64_t to = std::min((index + 1) * kSumsPerPage, data_end);
    for (uint64_t block = from; block < to; ++block)
      StoreSum(page, block, sums_[block - Superblock::kFirstFreeBlock]);
    FinishSumPage(page, index);
    page_blocks.push_back(next_block_ + index);
  }
  if (!pages.empty())
    COWL_CO_RETURN_IF_ERROR(co_await file_->Write(BlockOffsetBytes(next_block_), pages));
  next_block_ += page_blocks.size();
  absl::StatusOr<Section> table = co_await WriteSection(
      *file_, next_block_, std::as_bytes(std::span(page_blocks)), page_blocks.size());
  if (table.ok()) next_block_ += table->blocks;
  co_return table;
}

ExtentArray FileLayerWriter::FinalMap() const {
  ExtentArrayBuilder builder;
  map_.ForEach([&](const Segment& segment) {
    const bool hides_nothing = segment.kind == Segment::Kind::kZero && options_.parent.IsNil();
    if (!hides_nothing) builder.Add(segment);
  });
  return builder.Build();
}

Task<absl::StatusOr<LayerSummary>> FileLayerWriter::Finish() {
  Superblock superblock;
  superblock.id = Uuid::Random();
  superblock.parent = options_.parent;
  superblock.size_bytes = options_.size_bytes;
  superblock.created_ns = NowNs();
  superblock.created_by = options_.created_by.substr(0, Superblock::kCreatedByBytesMax);
  absl::StatusOr<Section> sums = co_await WriteSums();
  if (!sums.ok()) co_return sums.status();
  superblock.sum_pages = *sums;
  const ExtentArray map = FinalMap();
  absl::StatusOr<Section> section =
      co_await WriteSection(*file_, next_block_, std::as_bytes(map.extents()), map.size());
  if (!section.ok()) co_return section.status();
  superblock.map = *section;
  superblock.stored_blocks = map.DataBlocks();
  COWL_CO_RETURN_IF_ERROR(co_await file_->Sync());
  COWL_CO_RETURN_IF_ERROR(co_await WriteFirstSuperblock(*file_, &superblock));
  COWL_CO_RETURN_IF_ERROR(co_await file_->Sync());  // the file is a layer from here on
  co_return LayerSummary{superblock.id, BlockOffsetBytes(superblock.stored_blocks)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<LayerWriter>> LayerWriter::Create(
    Storage& storage, const std::string& name, const LayerWriterOptions& options) {
  if (options.size_bytes < kDeviceBytesMin || options.size_bytes > kDeviceBytesMax ||
      options.size_bytes % kSectorBytes != 0) {
    return InvalidArgument(absl::StrCat("a disk of ", options.size_bytes,
                                        " bytes: sizes are multiples of 512 up to 64T"));
  }
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, OpenMode::kCreate);
  if (!file.ok()) return file.status();
  return std::make_unique<FileLayerWriter>(*std::move(file), options);
}

}  // namespace cowl
