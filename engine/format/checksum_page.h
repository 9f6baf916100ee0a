// checksum_page.h: the checksums of 510 consecutive blocks of a data file, in one block that checks
// itself. A page knows its index, so one that was written to the wrong place is caught. Threads:
// pure functions. Errors: DataLoss.
//
//   0  check u64 (XXH3 of the rest)   8  page index u64   16  510 x XXH3 of a block
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "base/units.h"

namespace cowl {

inline constexpr uint64_t kSumsPerPage = 510;
static_assert(16 + kSumsPerPage * 8 == kBlockBytes);

constexpr uint64_t SumPageOf(uint64_t physical_block) { return physical_block / kSumsPerPage; }

// Reads and writes one checksum in a page's bytes.
const std::byte* SumAt(std::span<const std::byte> page, uint64_t physical_block);
uint64_t LoadSum(std::span<const std::byte> page, uint64_t physical_block);
void StoreSum(std::span<std::byte> page, uint64_t physical_block, uint64_t sum);

// Fills in index and check; to be called when the sums are in place.
void FinishSumPage(std::span<std::byte> page, uint64_t page_index);
absl::Status VerifySumPage(std::span<const std::byte> page, uint64_t page_index,
                           const std::string& path);

}  // namespace cowl
