// write_runs.h: how a write is cut into what an overlay takes: whole blocks of data, whole blocks
// of zeros, ragged ends. Pure. Units: bytes where the name says so, else blocks.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/units.h"
#include "format/journal_record.h"

namespace cowl {

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
  // Zeros are stored as a hole where a write is nothing else, or has this many blocks of them in a
  // row: fewer between data would each cost a record and an extent, more than their space is worth.
  static constexpr uint64_t kZeroRunBlocksMin = 8;
  static constexpr uint64_t kDataBlocksMax = JournalRecord::kBlocksMax;

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
    const uint64_t blocks = is_zero ? ZerosAtStart() : std::min(kDataBlocksMax, data_left_);
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

}  // namespace cowl
