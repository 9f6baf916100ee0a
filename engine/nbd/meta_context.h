// meta_context.h: the metadata contexts of block status: which there are, which a query means, and
// what they say of a disk's map.
//   base:allocation  (the protocol's) 3, hole and zero, for what reads as zeros; 0 for data
//   cowl:depth       1 for the top of the chain, 2 below it, ...; 0 where no layer has it
// Pure functions.
// Threads: any.
// Errors: a query that is no query is an empty optional.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "device/block_device.h"
#include "nbd/codec.h"

namespace cowl::nbd {

struct MetaContext {
  uint32_t id;  // also its bit in a ContextSet
  std::string_view name;
};

inline constexpr MetaContext kAllocationContext{1, "base:allocation"};
inline constexpr MetaContext kDepthContext{2, "cowl:depth"};
inline constexpr std::array kMetaContexts{kAllocationContext, kDepthContext};

class ContextSet {
 public:
  static ContextSet All();
  void Add(const MetaContext& context) { bits_ |= context.id; }
  void Add(ContextSet other) { bits_ |= other.bits_; }
  void Remove(const MetaContext& context) { bits_ &= ~context.id; }
  bool Has(const MetaContext& context) const { return (bits_ & context.id) != 0; }
  bool empty() const { return bits_ == 0; }
  bool operator==(const ContextSet&) const = default;

 private:
  uint32_t bits_ = 0;
};

// NAMESPACE:LEAF means that context, or nothing if there is no such; with `wildcards` (a list, not
// a choice), NAMESPACE: means all of its contexts. Empty when the query has no namespace.
std::optional<ContextSet> MatchContexts(std::string_view query, bool wildcards);

// The extents as `context` describes them, neighbours of one status merged; with `only_first` no
// more than one.
std::vector<StatusExtent> DescribeExtents(const MetaContext& context,
                                          std::span<const MapExtent> extents, bool only_first);

}  // namespace cowl::nbd
