#include "image/copy.h"

#include <algorithm>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"

namespace cowl {
namespace {

// Reads [offset, offset + length) and writes it as whole blocks. `offset` is a multiple of a block.
absl::Status CopyRun(BlockSource& source, BlockSink& sink, uint64_t offset_bytes,
                     uint64_t length_bytes, std::vector<std::byte>& buffer) {
  const uint64_t padded_bytes = RoundUp(length_bytes, kBlockBytes);
  const std::span<std::byte> run(buffer.data(), padded_bytes);
  std::ranges::fill(run.subspan(length_bytes), std::byte{0});
  COWL_RETURN_IF_ERROR(source.Read(offset_bytes, run.first(length_bytes)));
  return sink.Write(BlocksFloor(offset_bytes), run);
}

// How many bytes from `offset` on are zeros, in whole blocks (or up to the end).
uint64_t SkippableBytes(const SourceRun& run, uint64_t offset_bytes, uint64_t size_bytes) {
  if (!run.zero) return 0;
  const uint64_t end = offset_bytes + run.length_bytes;
  return (end == size_bytes ? end : BlockOffsetBytes(BlocksFloor(end))) - offset_bytes;
}

}  // namespace

absl::Status Report(const Progress& progress, uint64_t done_bytes, uint64_t total_bytes) {
  if (progress == nullptr || progress(done_bytes, total_bytes)) return absl::OkStatus();
  return absl::CancelledError("stopped before it was complete; nothing was kept");
}

absl::Status ForEachDataRun(
    std::span<const std::byte> run,
    const std::function<absl::Status(size_t at, std::span<const std::byte> data)>& write) {
  size_t begin = 0;  // [begin, at) is data that is not written yet
  for (size_t at = 0; at < run.size(); at += kBlockBytes) {
    const size_t length = std::min<size_t>(kBlockBytes, run.size() - at);
    if (!IsZero(run.subspan(at, length))) continue;
    if (at > begin) COWL_RETURN_IF_ERROR(write(begin, run.subspan(begin, at - begin)));
    begin = at + length;
  }
  return begin < run.size() ? write(begin, run.subspan(begin)) : absl::OkStatus();
}

absl::Status CopyBlocks(BlockSource& source, BlockSink& sink, const Progress& progress) {
  std::vector<std::byte> buffer(kCopyRunBytes);
  const uint64_t size = source.size_bytes();
  uint64_t offset = 0;
  while (offset < size) {
    COWL_RETURN_IF_ERROR(Report(progress, offset, size));
    COWL_ASSIGN_OR_RETURN(const SourceRun run, source.Next(offset));
    if (const uint64_t skip = SkippableBytes(run, offset, size); skip > 0) {
      offset += skip;
      continue;
    }
    // Runs end at multiples of 1 MiB, so that the layer's extents do; a run that ends inside a
    // block takes the block along.
    const uint64_t run_end = std::min(RoundUp(offset + run.length_bytes, kBlockBytes), size);
    const uint64_t end = std::min(run_end, offset / kCopyRunBytes * kCopyRunBytes + kCopyRunBytes);
    COWL_RETURN_IF_ERROR(CopyRun(source, sink, offset, end - offset, buffer));
    offset = end;
  }
  COWL_RETURN_IF_ERROR(source.CheckUnchanged());
  return Report(progress, size, size);
}

}  // namespace cowl
