// history.h: every state a device has been in, in the order of its requests, and which of them a
// crash may leave. A state is kept as a digest; the content of the newest one in full. Units:
// bytes; states are counted from 0. Positions are those of a recording's log. Threads: value type.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cowl {

class History {
 public:
  explicit History(uint64_t size_bytes);

  // A request that has been answered at `position`; requests are told in the order they took
  // effect.
  void Write(uint64_t offset_bytes, std::span<const std::byte> from, size_t position);
  void Discard(uint64_t offset_bytes, uint64_t length_bytes, size_t position);
  void Zero(uint64_t offset_bytes, uint64_t length_bytes, size_t position);
  // Requests that had not been answered when the process ended: each may have happened or not,
  // after all that was answered, in any order. Until the next GoOnFrom.
  struct Overwrite {
    uint64_t offset_bytes;
    std::vector<std::byte> bytes;
  };
  void Unanswered(std::vector<Overwrite> overwrites) { unanswered_ = std::move(overwrites); }
  // What a discard makes of these bytes: the whole blocks in it become zeros.
  Overwrite DiscardAsOverwrite(uint64_t offset_bytes, uint64_t length_bytes) const;
  // All up to `state` is durable from `position` on.
  void Flushed(size_t state, size_t position);

  // The newest state.
  size_t now() const { return digests_.size() - 1; }
  uint64_t size_bytes() const { return bytes_.size(); }
  // The oldest state that is right after a power cut at `position`, and after the process alone was
  // killed there.
  size_t DurableAt(size_t position) const;
  size_t AnsweredAt(size_t position) const;

  // The newest state from `at_least` on that reads as `image`; one that unanswered requests made is
  // noted as a state then.
  std::optional<size_t> Find(std::span<const std::byte> image, size_t at_least);
  // The device stands at `state` now and goes on from there, whatever had come later. Positions
  // stay.
  void GoOnFrom(size_t state, std::span<const std::byte> image);
  // Positions begin anew: everything that was durable at `position` is at 0.
  void RestartLog(size_t position);

  // For failures: the state that is nearest to `image`, and how they differ.
  std::string Explain(std::span<const std::byte> image) const;

 private:
  struct Change {
    uint64_t block;
    uint64_t sum;
  };
  struct Flush {
    size_t state;
    size_t position;
  };

  // A state that the device may have gone through although the list of states does not say so.
  struct Between {
    size_t state;
    uint64_t digest;
  };

  bool FindUnanswered(uint64_t digest, std::vector<Overwrite> left);
  void FindWaysTo(uint64_t digest, const std::vector<Overwrite>& left, std::vector<uint64_t> passed,
                  std::vector<uint64_t>* between) const;
  void Note(uint64_t first_block, uint64_t end_block, size_t position);
  static uint64_t BlockDigest(uint64_t block, uint64_t sum);
  uint64_t SumOf(std::span<const std::byte> image, uint64_t block) const;
  uint64_t Digest(std::span<const std::byte> image) const;

  std::vector<std::byte> bytes_;
  std::vector<uint64_t> sums_;  // of the newest state, by block
  // By state.
  std::vector<uint64_t> digests_;
  std::vector<size_t> answered_at_;
  std::vector<std::vector<Change>> changes_;
  std::vector<Flush> flushes_;
  std::vector<Between> between_;
  std::vector<Overwrite> unanswered_;
};

}  // namespace cowl
