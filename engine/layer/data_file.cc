#include "layer/data_file.h"

#include <algorithm>
#include <cstring>

#include "absl/container/inlined_vector.h"
#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"
#include "format/checksum_page.h"

namespace cowl {
namespace {

// A section whose blocks lie beyond the end of the file was truncated away.
absl::Status CheckInFile(const File& file, const Section& section, const char* what) {
  absl::StatusOr<uint64_t> size = file.SizeBytes();
  if (!size.ok()) return size.status();
  if (BlockOffsetBytes(section.block + section.blocks) <= *size) return absl::OkStatus();
  return DataLoss(absl::StrCat(file.path(), ": the ", what,
                               " section lies beyond the end of the file: it was truncated"));
}

template <typename T>
Task<absl::StatusOr<std::vector<T>>> ReadArray(File& file, const Section section,
                                               const char* what) {
  // Before memory is taken for it: a damaged count must not ask for terabytes.
  COWL_CO_RETURN_IF_ERROR(CheckInFile(file, section, what));
  std::vector<T> entries(section.entries);
  COWL_CO_RETURN_IF_ERROR(
      co_await ReadSection(file, section, std::as_writable_bytes(std::span(entries)), what));
  co_return entries;
}

}  // namespace

Task<absl::Status> ReadSection(File& file, const Section& section, std::span<std::byte> into,
                               const char* what) {
  if (section.entries == 0) co_return absl::OkStatus();
  COWL_CO_RETURN_IF_ERROR(CheckInFile(file, section, what));
  COWL_CO_RETURN_IF_ERROR(co_await file.Read(BlockOffsetBytes(section.block), into));
  if (Xxh3(into) != section.check) {
    co_return DataLoss(absl::StrCat(file.path(), ": the ", what, " section at block ",
                                    section.block, " fails its checksum"));
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<Superblock>> ReadSuperblock(File& file) {
  std::vector<std::byte> blocks(2 * kBlockBytes);
  absl::StatusOr<uint64_t> size = file.SizeBytes();
  if (!size.ok()) co_return size.status();
  if (*size < blocks.size()) {
    co_return DataLoss(absl::StrCat(file.path(), ": ", *size,
                                    " bytes are too few for a cowl data file: it was truncated"));
  }
  COWL_CO_RETURN_IF_ERROR(co_await file.Read(0, blocks));
  co_return ChooseSuperblock(blocks, file.path());
}

Task<absl::StatusOr<FileMap>> ReadFileMap(File& file, const Superblock& superblock) {
  FileMap map;
  absl::StatusOr<std::vector<Uuid>> files =
      co_await ReadArray<Uuid>(file, superblock.files, "data file");
  if (!files.ok()) co_return files.status();
  map.files = {superblock.id};
  map.files.insert(map.files.end(), files->begin(), files->end());
  absl::StatusOr<std::vector<Extent>> extents =
      co_await ReadArray<Extent>(file, superblock.map, "map");
  if (!extents.ok()) co_return extents.status();
  absl::StatusOr<ExtentArray> array =
      ExtentArray::FromDisk(*std::move(extents), map.files.size(), file.path());
  if (!array.ok()) co_return array.status();
  map.extents = *std::move(array);
  co_return map;
}

Task<absl::StatusOr<std::vector<uint64_t>>> ReadPageTable(File& file,
                                                          const Superblock& superblock) {
  absl::StatusOr<std::vector<uint64_t>> table =
      co_await ReadArray<uint64_t>(file, superblock.sum_pages, "checksum page");
  if (!table.ok()) co_return table.status();
  for (size_t i = 0; i < table->size(); ++i) {
    const uint64_t block = (*table)[i];
    if (block != 0 && (block < Superblock::kFirstFreeBlock || block >= Extent::kPhysicalLimit)) {
      co_return DataLoss(absl::StrCat(file.path(), ": checksum page table: page ", i,
                                      " stands in block ", block, ", which cannot be"));
    }
  }
  co_return table;
}

absl::Status BadBlock(const std::string& path, uint64_t physical) {
  return DataLoss(absl::StrCat(path, ": block ", physical, " (byte ", BlockOffsetBytes(physical),
                               ") fails its checksum"));
}

absl::Status VerifyBlocks(std::span<const std::byte> data, std::span<const uint64_t> sums,
                          uint64_t physical, const std::string& path) {
  for (size_t i = 0; i < sums.size(); ++i) {
    if (Xxh3(data.subspan(i * kBlockBytes, kBlockBytes)) != sums[i])
      return BadBlock(path, physical + i);
  }
  return absl::OkStatus();
}

Task<absl::Status> SumTable::Load(uint64_t physical, std::span<uint64_t> sums) {
  for (size_t i = 0; i < sums.size();) {
    const uint64_t index = SumPageOf(physical + i);
    absl::StatusOr<std::span<const std::byte>> page = co_await Page(index);
    if (!page.ok()) co_return page.status();
    for (; i < sums.size() && SumPageOf(physical + i) == index; ++i)
      sums[i] = LoadSum(*page, physical + i);
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::span<const std::byte>>> SumTable::Page(uint64_t index) {
  static constexpr std::byte kNoSums[kBlockBytes] = {};
  PageBytes bytes;
  while (true) {
    if (index < pages_.size() && pages_[index] != nullptr)
      co_return std::span<const std::byte>(pages_[index].get(), kBlockBytes);
    const uint64_t block = BlockOf(index);
    if (block == 0) co_return std::span<const std::byte>(kNoSums);
    if (bytes == nullptr) bytes = std::make_unique<std::byte[]>(kBlockBytes);
    const std::span<std::byte> page(bytes.get(), kBlockBytes);
    absl::Status status = co_await file_.Read(BlockOffsetBytes(block), page);
    // A checkpoint may have moved the page while it was read; what was read is nothing to go by
    // then.
    if (BlockOf(index) != block) continue;
    if (status.ok()) status = VerifySumPage(page, index, file_.path());
    if (!status.ok()) co_return status;
    break;
  }
  co_return Keep(index, std::move(bytes));
}

std::span<const std::byte> SumTable::Keep(uint64_t index, PageBytes bytes) {
  if (pages_[index] == nullptr) ++kept_pages_;  // else another reader was faster
  pages_[index] = std::move(bytes);
  while (kept_pages_ > kept_pages_max_) {
    if (next_victim_ >= pages_.size()) next_victim_ = 0;
    PageBytes& victim = pages_[next_victim_];
    if (victim != nullptr && next_victim_ != index) {
      victim.reset();
      --kept_pages_;
    }
    ++next_victim_;
  }
  return {pages_[index].get(), kBlockBytes};
}

void SumTable::Expect(uint64_t physical) const {
  const uint64_t index = SumPageOf(physical);
  if (index < pages_.size() && pages_[index] != nullptr)
    __builtin_prefetch(SumAt({pages_[index].get(), kBlockBytes}, physical));
}

uint64_t SumTable::BlockOf(uint64_t index) const {
  return index < page_blocks_.size() ? page_blocks_[index] : 0;
}

void SumTable::Replace(std::vector<uint64_t> page_blocks) {
  for (size_t index = 0; index < pages_.size(); ++index) {
    const bool same = index < page_blocks.size() && page_blocks_[index] == page_blocks[index];
    if (same || pages_[index] == nullptr) continue;
    pages_[index].reset();
    --kept_pages_;
  }
  page_blocks_ = std::move(page_blocks);
  pages_.resize(page_blocks_.size());
}

Task<absl::StatusOr<DataFileLayout>> OpenLayout(Storage& storage, std::string name, OpenMode mode) {
  absl::StatusOr<std::unique_ptr<File>> file = storage.Open(name, mode);
  if (!file.ok()) co_return file.status();
  absl::StatusOr<Superblock> superblock = co_await ReadSuperblock(**file);
  if (!superblock.ok()) co_return superblock.status();
  absl::StatusOr<std::vector<uint64_t>> pages = co_await ReadPageTable(**file, *superblock);
  if (!pages.ok()) co_return pages.status();
  DataFileLayout layout;
  layout.file = *std::move(file);
  layout.superblock = *superblock;
  layout.page_blocks = *std::move(pages);
  co_return layout;
}

Task<absl::StatusOr<std::shared_ptr<DataFile>>> DataFile::Open(Storage& storage, std::string name) {
  absl::StatusOr<DataFileLayout> layout =
      co_await OpenLayout(storage, std::move(name), OpenMode::kRead);
  if (!layout.ok()) co_return layout.status();
  co_return std::shared_ptr<DataFile>(
      new DataFile(std::move(layout->file), std::move(layout->page_blocks)));
}

Task<absl::Status> DataFile::Read(uint64_t physical, std::span<std::byte> into) {
  const size_t blocks = into.size() / kBlockBytes;
  absl::InlinedVector<uint64_t, 8> sums(blocks);
  COWL_CO_RETURN_IF_ERROR(co_await sums_.Load(physical, std::span(sums)));
  COWL_CO_RETURN_IF_ERROR(co_await file_->Read(BlockOffsetBytes(physical), into));
  co_return VerifyBlocks(into, sums, physical, file_->path());
}

}  // namespace cowl
