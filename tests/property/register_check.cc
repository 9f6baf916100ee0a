#include "register_check.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"

namespace cowl {

void RegisterCheck::Cluster::Add(const Span& span) {
  first_end = std::min(first_end, span.end);
  last_begin = std::max(last_begin, span.begin);
}

void RegisterCheck::Write(uint64_t value, uint64_t begin, uint64_t end) {
  if (value == 0) {
    zero_writes_.emplace(begin, Span{begin, end});
    return;
  }
  Cluster& cluster = clusters_[value];
  cluster.is_written = true;
  cluster.write = {begin, end};
  cluster.Add({begin, end});
}

void RegisterCheck::Read(uint64_t value, uint64_t begin, uint64_t end) {
  if (value == 0) {
    zero_reads_.emplace(begin, Span{begin, end});
    return;
  }
  clusters_[value].Add({begin, end});
}

std::string RegisterCheck::Check() const {
  struct Zone {
    uint64_t low;
    uint64_t high;
    bool is_forward;
    uint64_t value;
  };
  std::vector<Zone> forward;
  std::vector<Zone> backward;
  for (const auto& [value, cluster] : clusters_) {
    if (!cluster.is_written) return absl::StrCat("value ", value, " was read, and never written");
    if (cluster.first_end < cluster.write.begin)
      return absl::StrCat("value ", value, " was read before its write began");
    const bool is_forward = cluster.first_end < cluster.last_begin;
    const Zone zone{std::min(cluster.first_end, cluster.last_begin),
                    std::max(cluster.first_end, cluster.last_begin), is_forward, value};
    (is_forward ? forward : backward).push_back(zone);
  }
  const auto by_low = [](const Zone& a, const Zone& b) { return a.low < b.low; };
  std::sort(forward.begin(), forward.end(), by_low);
  for (size_t i = 1; i < forward.size(); ++i) {
    if (forward[i].low < forward[i - 1].high) {
      return absl::StrCat("values ", forward[i - 1].value, " and ", forward[i].value,
                          " were both there from ", forward[i].low, " to ",
                          std::min(forward[i - 1].high, forward[i].high));
    }
  }
  for (const Zone& zone : backward) {
    auto after = std::upper_bound(forward.begin(), forward.end(), zone, by_low);
    if (after == forward.begin()) continue;
    const Zone& holder = *std::prev(after);
    if (holder.low < zone.low && zone.high < holder.high) {
      return absl::StrCat("value ", zone.value, " was there within the time of ", holder.value,
                          " (", holder.low, " to ", holder.high, ")");
    }
  }
  return CheckZeros();
}

// A read of 0 is right when some write of 0 (or the beginning) may be the last before it.
std::string RegisterCheck::CheckZeros() const {
  for (const auto& [at, read] : zero_reads_) {
    std::vector<Span> sources{{0, 0}};
    for (const auto& [begin, write] : zero_writes_) {
      if (write.begin < read.end) sources.push_back(write);
    }
    const bool is_explained = std::any_of(sources.begin(), sources.end(), [&](const Span& source) {
      return std::none_of(clusters_.begin(), clusters_.end(), [&](const auto& entry) {
        const Cluster& cluster = entry.second;
        return source.end < cluster.write.begin && cluster.write.end < read.begin;
      });
    });
    if (!is_explained)
      return absl::StrCat("0 was read at ", read.begin, " to ", read.end,
                          " after it had been overwritten");
  }
  return "";
}

}  // namespace cowl
