#include "nbd/command.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/status.h"

namespace cowl::nbd {
namespace {

// Bounds the time that one request holds up its loop, and the size of a reply.
constexpr size_t kStatusExtentsMax = 4096;
constexpr size_t kReadExtentsMax = 64;
// With NBD_CMD_FLAG_REQ_ONE: runs of one status that the map holds in pieces come out whole, up to
// this many pieces.
constexpr size_t kOneExtentPiecesMax = 64;

bool Has(const Request& request, CommandFlag flag) { return (request.flags & flag) != 0; }

WriteOptions WriteOptionsOf(const Request& request) { return {.fua = Has(request, kCmdFlagFua)}; }

void Finish(Job& job, absl::Status status, bool structured) {
  job.payload = {};
  job.payload_owner = {};
  if (status.ok()) return job.reply.Succeed(job.request);
  job.reply.Fail(job.request, ErrorOf(status, job.request), Message(status), structured);
  job.failure = std::move(status);
}

Task<void> ReadWhole(BlockDevice& device, bool structured, Job& job) {
  BufferRef data = BufferPool::ForThisThread().Take(job.request.length_bytes);
  const auto into = data.bytes().first(job.request.length_bytes);
  absl::Status status = co_await device.Read(job.request.offset_bytes, into);
  if (!status.ok()) {
    Finish(job, std::move(status), structured);
  } else {
    job.reply.SetData(job.request, std::move(data), structured, job.more_follows);
  }
}

Task<void> ReadFragments(BlockDevice& device, Job& job, std::vector<Fragment> fragments) {
  uint32_t data_bytes = 0;
  for (const Fragment& fragment : fragments)
    data_bytes += fragment.is_hole ? 0 : fragment.length_bytes;
  BufferRef data = BufferPool::ForThisThread().Take(data_bytes);
  auto into = data.bytes();
  for (const Fragment& fragment : fragments) {
    if (fragment.is_hole) continue;
    const auto piece = into.first(fragment.length_bytes);
    absl::Status status = co_await device.Read(fragment.offset_bytes, piece);
    if (!status.ok()) {
      Finish(job, std::move(status), true);
      co_return;
    }
    into = into.subspan(fragment.length_bytes);
  }
  job.reply.SetFragments(job.request, fragments, std::move(data), job.more_follows);
}

Task<void> Read(BlockDevice& device, const ExportFacts& facts, Job& job) {
  const Request& request = job.request;
  const bool may_have_holes = facts.structured && !Has(request, kCmdFlagDf) &&
                              request.length_bytes >= kReadWithHolesBytesMin;
  if (!may_have_holes) return ReadWhole(device, facts.structured, job);
  const auto extents = device.Map(request.offset_bytes, request.length_bytes, kReadExtentsMax);
  if (!extents.ok()) return ReadWhole(device, true, job);  // the read itself says what is wrong
  std::vector<Fragment> fragments =
      PlanFragments(request.offset_bytes, request.length_bytes, *extents);
  if (fragments.size() == 1 && !fragments[0].is_hole) return ReadWhole(device, true, job);
  return ReadFragments(device, job, std::move(fragments));
}

Task<void> Write(BlockDevice& device, bool structured, Job& job) {
  const WriteOptions options = WriteOptionsOf(job.request);
  absl::Status status = co_await device.Write(job.request.offset_bytes, job.payload, options);
  Finish(job, std::move(status), structured);
}

Task<void> Flush(BlockDevice& device, bool structured, Job& job) {
  absl::Status status = co_await device.Flush();
  Finish(job, std::move(status), structured);
}

Task<void> Trim(BlockDevice& device, bool structured, Job& job) {
  const Request& request = job.request;
  const WriteOptions options = WriteOptionsOf(request);
  absl::Status status =
      co_await device.Discard(request.offset_bytes, request.length_bytes, options);
  Finish(job, std::move(status), structured);
}

Task<void> Cache(BlockDevice& device, bool structured, Job& job) {
  absl::Status status =
      co_await device.Prefetch(job.request.offset_bytes, job.request.length_bytes);
  Finish(job, std::move(status), structured);
}

Task<void> WriteZeroes(BlockDevice& device, bool structured, Job& job) {
  const Request& request = job.request;
  const ZeroOptions options{.fua = Has(request, kCmdFlagFua),
                            .no_hole = Has(request, kCmdFlagNoHole),
                            .fast_only = Has(request, kCmdFlagFastZero)};
  absl::Status status =
      co_await device.WriteZeroes(request.offset_bytes, request.length_bytes, options);
  Finish(job, std::move(status), structured);
}

absl::StatusOr<std::string> DescribeRange(BlockDevice& device, ContextSet contexts,
                                          const Request& request) {
  const bool only_first = Has(request, kCmdFlagReqOne);
  COWL_ASSIGN_OR_RETURN(const auto extents,
                        device.Map(request.offset_bytes, request.length_bytes,
                                   only_first ? kOneExtentPiecesMax : kStatusExtentsMax));
  std::string chunks;
  for (const MetaContext& context : kMetaContexts) {
    if (!contexts.Has(context)) continue;
    const auto described = DescribeExtents(context, extents, only_first);
    if (described.empty()) return Internal("the disk's map has nothing to say of the range");
    contexts.Remove(context);
    AppendStatusChunk(request.cookie, contexts.empty(), context.id, described, chunks);
  }
  return chunks;
}

Task<void> BlockStatus(BlockDevice& device, ContextSet contexts, Job& job) {
  auto chunks = DescribeRange(device, contexts, job.request);
  if (!chunks.ok()) {
    Finish(job, chunks.status(), true);
  } else {
    job.reply.SetChunks(*std::move(chunks));
  }
  co_return;
}

}  // namespace

std::vector<Fragment> PlanFragments(uint64_t offset_bytes, uint32_t length_bytes,
                                    std::span<const MapExtent> extents) {
  std::vector<Fragment> fragments;
  const auto add = [&fragments](uint64_t begin, uint64_t end, bool is_hole) {
    if (begin == end) return;
    const auto run_bytes = static_cast<uint32_t>(end - begin);
    if (!fragments.empty() && fragments.back().is_hole == is_hole) {
      fragments.back().length_bytes += run_bytes;
    } else {
      fragments.push_back({begin, run_bytes, is_hole});
    }
  };
  uint64_t at = offset_bytes;
  const uint64_t end = offset_bytes + length_bytes;
  for (const MapExtent& extent : extents) {
    if (extent.offset_bytes != at || extent.length_bytes > end - at) break;
    add(at, at + extent.length_bytes,
        extent.type == MapExtent::Type::kZero && extent.length_bytes >= kHoleBytesMin);
    at += extent.length_bytes;
  }
  add(at, end, false);
  return fragments;
}

uint32_t ReadPartBytes(BlockDevice& device, const ExportFacts& facts, const Request& request) {
  const bool may_be_parted =
      facts.structured && request.type == kCmdRead && !Has(request, kCmdFlagDf);
  // A short rest is not worth a part of its own.
  if (!may_be_parted || request.length_bytes <= kReadPartBytes * 3 / 2) return request.length_bytes;
  const auto hole_bytes = [&](uint32_t length_bytes) -> uint32_t {
    const auto first = device.Map(request.offset_bytes, length_bytes, 1);
    const bool is_hole =
        first.ok() && !first->empty() && first->front().type == MapExtent::Type::kZero;
    return is_hole ? static_cast<uint32_t>(first->front().length_bytes) : 0;
  };
  if (hole_bytes(kReadPartBytes) < kReadPartBytes) return kReadPartBytes;
  return std::max(kReadPartBytes, hole_bytes(request.length_bytes));
}

Task<void> Execute(BlockDevice& device, const ExportFacts& facts, Job& job) {
  switch (job.request.type) {
    case kCmdRead:
      return Read(device, facts, job);
    case kCmdWrite:
      return Write(device, facts.structured, job);
    case kCmdFlush:
      return Flush(device, facts.structured, job);
    case kCmdTrim:
      return Trim(device, facts.structured, job);
    case kCmdCache:
      return Cache(device, facts.structured, job);
    case kCmdWriteZeroes:
      return WriteZeroes(device, facts.structured, job);
    case kCmdBlockStatus:
      return BlockStatus(device, facts.contexts, job);
    default:
      break;
  }
  COWL_CHECK(false);  // request_rules.h let an unknown command through
}

}  // namespace cowl::nbd
