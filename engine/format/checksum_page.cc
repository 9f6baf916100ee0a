#include "format/checksum_page.h"

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr size_t kIndexAt = 8;
constexpr size_t kSumsAt = 16;

size_t PlaceOf(uint64_t physical_block) { return kSumsAt + physical_block % kSumsPerPage * 8; }

}  // namespace

const std::byte* SumAt(std::span<const std::byte> page, uint64_t physical_block) {
  return page.data() + PlaceOf(physical_block);
}

uint64_t LoadSum(std::span<const std::byte> page, uint64_t physical_block) {
  return LoadLittle<uint64_t>(SumAt(page, physical_block));
}

void StoreSum(std::span<std::byte> page, uint64_t physical_block, uint64_t sum) {
  StoreLittle(page.data() + PlaceOf(physical_block), sum);
}

void FinishSumPage(std::span<std::byte> page, uint64_t page_index) {
  StoreLittle(page.data() + kIndexAt, page_index);
  StoreLittle(page.data(), Xxh3(page.subspan(kIndexAt)));
}

absl::Status VerifySumPage(std::span<const std::byte> page, uint64_t page_index,
                           const std::string& path) {
  if (LoadLittle<uint64_t>(page.data()) != Xxh3(page.subspan(kIndexAt)) ||
      LoadLittle<uint64_t>(page.data() + kIndexAt) != page_index) {
    return DataLoss(absl::StrCat(path, ": checksum page ", page_index, " (of blocks ",
                                 page_index * kSumsPerPage, " and following) is damaged"));
  }
  return absl::OkStatus();
}

}  // namespace cowl
