#include "image/diff_sink.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "base/units.h"

namespace cowl {

absl::Status DiffSink::ReadParent(uint64_t block, std::span<std::byte> into) {
  const uint64_t offset = BlockOffsetBytes(block);
  const uint64_t have = offset >= parent_.size_bytes()
                            ? 0
                            : std::min<uint64_t>(parent_.size_bytes() - offset, into.size());
  std::ranges::fill(into.subspan(have), std::byte{0});
  return have == 0 ? absl::OkStatus() : parent_.Read(offset, into.first(have));
}

absl::Status DiffSink::WriteRun(uint64_t block, std::span<const std::byte> data) {
  if (data.empty()) return absl::OkStatus();
  stored_.Add(block, block + data.size() / kBlockBytes);
  return inner_.Write(block, data);
}

absl::Status DiffSink::Write(uint64_t block, std::span<const std::byte> data) {
  parent_buffer_.resize(data.size());
  COWL_RETURN_IF_ERROR(ReadParent(block, parent_buffer_));
  const uint64_t count = data.size() / kBlockBytes;
  touched_.Add(block, block + count);
  uint64_t run_begin = 0;  // blocks [run_begin, i) differ and are not passed on yet
  for (uint64_t i = 0; i < count; ++i) {
    const std::byte* mine = data.data() + i * kBlockBytes;
    const bool same = std::memcmp(mine, parent_buffer_.data() + i * kBlockBytes, kBlockBytes) == 0;
    if (!same || stored_.Contains(block + i)) continue;
    COWL_RETURN_IF_ERROR(WriteRun(
        block + run_begin, data.subspan(run_begin * kBlockBytes, (i - run_begin) * kBlockBytes)));
    run_begin = i + 1;
  }
  return WriteRun(block + run_begin, data.subspan(run_begin * kBlockBytes));
}

absl::Status DiffSink::HideParent(uint64_t begin_block, uint64_t end_block) {
  const uint64_t end = std::min(BlockOffsetBytes(end_block), parent_.size_bytes());
  for (uint64_t offset = BlockOffsetBytes(begin_block); offset < end;) {
    COWL_ASSIGN_OR_RETURN(const SourceRun run, parent_.Next(offset));
    const uint64_t run_end = std::min(offset + run.length_bytes, end);
    if (!run.zero) {
      const uint64_t first = BlocksFloor(offset);
      const uint64_t last = BlocksCeil(run_end);
      COWL_RETURN_IF_ERROR(inner_.Zero(first, last));
    }
    offset = run_end;
  }
  return absl::OkStatus();
}

absl::Status DiffSink::Zero(uint64_t begin_block, uint64_t end_block) {
  touched_.Add(begin_block, end_block);
  stored_.Add(begin_block, end_block);
  return inner_.Zero(begin_block, end_block);
}

absl::StatusOr<SinkSummary> DiffSink::Finish() {
  uint64_t at = 0;
  for (const auto& [begin, end] : touched_.ranges()) {
    COWL_RETURN_IF_ERROR(HideParent(at, begin));
    at = end;
  }
  COWL_RETURN_IF_ERROR(HideParent(at, BlocksCeil(size_bytes())));
  return inner_.Finish();
}

}  // namespace cowl
