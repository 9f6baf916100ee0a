#include "nbd/meta_context.h"

#include <limits>

namespace cowl::nbd {
namespace {

uint32_t StatusOf(const MetaContext& context, const MapExtent& extent) {
  if (context.id == kDepthContext.id) return extent.depth;
  return extent.type == MapExtent::Type::kZero ? kStateHole | kStateZero : 0;
}

}  // namespace

ContextSet ContextSet::All() {
  ContextSet all;
  for (const MetaContext& context : kMetaContexts) all.Add(context);
  return all;
}

std::optional<ContextSet> MatchContexts(std::string_view query, bool wildcards) {
  const size_t colon = query.find(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const bool is_wildcard = colon + 1 == query.size();
  ContextSet matched;
  for (const MetaContext& context : kMetaContexts) {
    const bool matches =
        is_wildcard ? wildcards && context.name.starts_with(query) : context.name == query;
    if (matches) matched.Add(context);
  }
  return matched;
}

std::vector<StatusExtent> DescribeExtents(const MetaContext& context,
                                          std::span<const MapExtent> extents, bool only_first) {
  std::vector<StatusExtent> described;
  for (const MapExtent& extent : extents) {
    const uint32_t status = StatusOf(context, extent);
    const uint64_t length_bytes = extent.length_bytes;
    if (!described.empty() && described.back().status == status) {
      const uint64_t merged_bytes = described.back().length_bytes + length_bytes;
      if (merged_bytes > std::numeric_limits<uint32_t>::max()) break;
      described.back().length_bytes = static_cast<uint32_t>(merged_bytes);
      continue;
    }
    if (only_first && !described.empty()) break;
    if (length_bytes == 0 || length_bytes > std::numeric_limits<uint32_t>::max()) break;
    described.push_back({static_cast<uint32_t>(length_bytes), status});
  }
  return described;
}

}  // namespace cowl::nbd
