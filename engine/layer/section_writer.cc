#include "layer/section_writer.h"

#include <vector>

#include "base/checksum.h"
#include "base/status.h"

namespace cowl {

Task<absl::StatusOr<Section>> WriteSection(File& file, uint64_t block,
                                           std::span<const std::byte> bytes, uint64_t entries) {
  static constexpr std::byte kPadding[kBlockBytes] = {};
  if (entries == 0) co_return Section{};
  const Section section{block, BlocksCeil(bytes.size()), entries, Xxh3(bytes)};
  // Padded to whole blocks, so that the section never lies across the end of the file.
  const size_t padding = BlockOffsetBytes(section.blocks) - bytes.size();
  const iovec parts[] = {{const_cast<std::byte*>(bytes.data()), bytes.size()},
                         {const_cast<std::byte*>(kPadding), padding}};
  const std::span<const iovec> both(parts, padding == 0 ? 1 : 2);
  COWL_CO_RETURN_IF_ERROR(co_await file.WriteVector(BlockOffsetBytes(block), both));
  co_return section;
}

Task<absl::Status> WriteSuperblock(File& file, Superblock superblock) {
  // It would replace one that can be read.
  const absl::Status can_be_read = CheckSuperblock(superblock, file.path());
  if (!can_be_read.ok()) co_return FailedPrecondition(Message(can_be_read));
  std::vector<std::byte> block(kBlockBytes);
  EncodeSuperblock(superblock, block);
  co_return co_await file.Write(BlockOffsetBytes(Superblock::SlotOf(superblock.generation)), block);
}

Task<absl::Status> WriteFirstSuperblock(File& file, Superblock* superblock) {
  superblock->generation = 1;
  COWL_CO_RETURN_IF_ERROR(co_await WriteSuperblock(file, *superblock));
  superblock->generation = 2;
  co_return co_await WriteSuperblock(file, *superblock);
}

}  // namespace cowl
