#include "history.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/checksum.h"
#include "base/units.h"

namespace cowl {

History::History(uint64_t size_bytes) : bytes_(size_bytes), sums_(BlocksCeil(size_bytes)) {
  uint64_t digest = 0;
  changes_.emplace_back();
  for (uint64_t block = 0; block < sums_.size(); ++block) {
    sums_[block] = SumOf(bytes_, block);
    digest ^= BlockDigest(block, sums_[block]);
    changes_[0].push_back({block, sums_[block]});
  }
  digests_.push_back(digest);
  answered_at_.push_back(0);
  flushes_.push_back({0, 0});
}

uint64_t History::BlockDigest(uint64_t block, uint64_t sum) {
  const uint64_t pair[] = {block, sum};
  return Xxh3(std::as_bytes(std::span(pair)));
}

uint64_t History::SumOf(std::span<const std::byte> image, uint64_t block) const {
  const uint64_t begin = BlockOffsetBytes(block);
  return Xxh3(image.subspan(begin, std::min<uint64_t>(kBlockBytes, image.size() - begin)));
}

uint64_t History::Digest(std::span<const std::byte> image) const {
  uint64_t digest = 0;
  for (uint64_t block = 0; block < sums_.size(); ++block)
    digest ^= BlockDigest(block, SumOf(image, block));
  return digest;
}

void History::Note(uint64_t first_block, uint64_t end_block, size_t position) {
  uint64_t digest = digests_.back();
  std::vector<Change> changes;
  for (uint64_t block = first_block; block < end_block; ++block) {
    const uint64_t sum = SumOf(bytes_, block);
    digest ^= BlockDigest(block, sums_[block]) ^ BlockDigest(block, sum);
    sums_[block] = sum;
    changes.push_back({block, sum});
  }
  digests_.push_back(digest);
  answered_at_.push_back(position);
  changes_.push_back(std::move(changes));
}

void History::Write(uint64_t offset_bytes, std::span<const std::byte> from, size_t position) {
  std::copy(from.begin(), from.end(), bytes_.begin() + static_cast<ptrdiff_t>(offset_bytes));
  Note(BlocksFloor(offset_bytes), BlocksCeil(offset_bytes + from.size()), position);
}

void History::Zero(uint64_t offset_bytes, uint64_t length_bytes, size_t position) {
  std::memset(bytes_.data() + offset_bytes, 0, length_bytes);
  Note(BlocksFloor(offset_bytes), BlocksCeil(offset_bytes + length_bytes), position);
}

History::Overwrite History::DiscardAsOverwrite(uint64_t offset_bytes, uint64_t length_bytes) const {
  const uint64_t end_bytes = offset_bytes + length_bytes;
  const uint64_t begin = BlocksCeil(offset_bytes);
  const uint64_t end = end_bytes == bytes_.size() ? BlocksCeil(end_bytes) : BlocksFloor(end_bytes);
  if (begin >= end) return {};
  const uint64_t to_bytes = std::min<uint64_t>(BlockOffsetBytes(end), bytes_.size());
  return {BlockOffsetBytes(begin), std::vector<std::byte>(to_bytes - BlockOffsetBytes(begin))};
}

void History::Discard(uint64_t offset_bytes, uint64_t length_bytes, size_t position) {
  const Overwrite zeros = DiscardAsOverwrite(offset_bytes, length_bytes);
  if (!zeros.bytes.empty()) Zero(zeros.offset_bytes, zeros.bytes.size(), position);
}

void History::Flushed(size_t state, size_t position) {
  flushes_.push_back({std::max(state, flushes_.back().state), position});
}

size_t History::DurableAt(size_t position) const {
  size_t state = 0;
  for (const Flush& flush : flushes_) {
    if (flush.position <= position) state = flush.state;
  }
  return state;
}

size_t History::AnsweredAt(size_t position) const {
  const auto after = std::upper_bound(answered_at_.begin(), answered_at_.end(), position);
  return static_cast<size_t>(after - answered_at_.begin()) - 1;
}

std::optional<size_t> History::Find(std::span<const std::byte> image, size_t at_least) {
  const uint64_t digest = Digest(image);
  for (size_t state = digests_.size(); state-- > at_least;) {
    if (digests_[state] == digest) return state;
  }
  for (const Between& between : between_) {
    if (between.state >= at_least && between.digest == digest) return between.state;
  }
  const History before = *this;
  if (!FindUnanswered(digest, unanswered_)) return std::nullopt;
  std::vector<uint64_t> between;
  before.FindWaysTo(digest, unanswered_, {}, &between);
  for (const uint64_t one : between) {
    if (one != digest) between_.push_back({before.now(), one});
  }
  return now();
}

// What unanswered requests led to does not say which of them took effect, and in which order: a
// later crash may go back to anywhere on any way there. `passed`: this way's digests so far.
void History::FindWaysTo(uint64_t digest, const std::vector<Overwrite>& left,
                         std::vector<uint64_t> passed, std::vector<uint64_t>* between) const {
  for (size_t i = 0; i < left.size(); ++i) {
    History after = *this;
    after.Write(left[i].offset_bytes, left[i].bytes, answered_at_.back());
    if (after.digests_.back() == digest)
      between->insert(between->end(), passed.begin(), passed.end());
    std::vector<Overwrite> rest = left;
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(i));
    std::vector<uint64_t> further = passed;
    further.push_back(after.digests_.back());
    after.FindWaysTo(digest, rest, std::move(further), between);
  }
}

// Tries every order of what was not answered, and notes what leads to the digest. A few requests
// are in flight at most.
bool History::FindUnanswered(uint64_t digest, std::vector<Overwrite> left) {
  for (size_t i = 0; i < left.size(); ++i) {
    const History before = *this;
    Write(left[i].offset_bytes, left[i].bytes, answered_at_.back());
    std::vector<Overwrite> rest = left;
    rest.erase(rest.begin() + static_cast<ptrdiff_t>(i));
    if (digests_.back() == digest || FindUnanswered(digest, std::move(rest))) return true;
    *this = before;
  }
  return false;
}

void History::GoOnFrom(size_t state, std::span<const std::byte> image) {
  bytes_.assign(image.begin(), image.end());
  for (uint64_t block = 0; block < sums_.size(); ++block) sums_[block] = SumOf(image, block);
  digests_.resize(state + 1);
  answered_at_.resize(state + 1);
  changes_.resize(state + 1);
  digests_.back() = Digest(image);  // of the same number in another order, perhaps
  std::erase_if(between_, [&](const Between& between) { return between.state > state; });
  unanswered_.clear();
}

void History::RestartLog(size_t position) {
  const size_t durable = std::min(DurableAt(position), now());
  std::fill(answered_at_.begin(), answered_at_.end(), 0);
  unanswered_.clear();
  flushes_ = {{durable, 0}};
}

std::string History::Explain(std::span<const std::byte> image) const {
  std::vector<uint64_t> sums(sums_.size());
  std::vector<uint64_t> wrong_best;
  size_t best = 0;
  for (size_t state = 0; state < digests_.size(); ++state) {
    for (const Change& change : changes_[state]) sums[change.block] = change.sum;
    std::vector<uint64_t> wrong;
    for (uint64_t block = 0; block < sums.size(); ++block) {
      if (sums[block] != SumOf(image, block)) wrong.push_back(block);
    }
    if (state == 0 || wrong.size() <= wrong_best.size()) {
      best = state;
      wrong_best = wrong;
    }
  }
  std::string text = absl::StrCat("nearest is state ", best, " of ", now(), ", but for ",
                                  wrong_best.size(), " blocks:");
  for (const uint64_t block : wrong_best) {
    std::string when = "never so";
    for (size_t state = 0; state < digests_.size(); ++state) {
      for (const Change& change : changes_[state]) {
        if (change.block == block && change.sum == SumOf(image, block))
          when = absl::StrCat("as made by ", state);
      }
    }
    absl::StrAppend(&text, " ", block, " (", when, ")");
    if (text.size() > 600) break;
  }
  return text;
}

}  // namespace cowl
