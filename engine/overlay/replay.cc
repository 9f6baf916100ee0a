#include "overlay/replay.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"
#include "overlay/overlay_internal.h"
#include "overlay/slot_allocator.h"

namespace cowl {
namespace {

// A record that fits the chain: where it stands, and where the chain stands after it. Decoded again
// when it is needed, since a journal holds many and most are applied once.
struct ChainedRecord {
  uint32_t chunk_index = 0;
  uint32_t offset_bytes = 0;
  uint64_t order = 0;
};

struct Chain {
  JournalPosition start;
  JournalPosition end;
  std::vector<SlotRun> chunks;
  std::vector<std::vector<std::byte>> bytes;  // of each chunk
  std::vector<ChainedRecord> records;
  uint64_t durable_order = 0;   // the highest that a record names
  std::vector<std::byte> rest;  // of the last chunk, from where no record fits

  JournalRecord Decode(const ChainedRecord& at, uint64_t secret) const {
    size_t length = 0;
    return *DecodeRecord(std::span(bytes[at.chunk_index]).subspan(at.offset_bytes), secret,
                         &length);
  }
};

Task<absl::StatusOr<std::vector<std::byte>>> ReadChunk(File& file, const SlotRun chunk) {
  absl::StatusOr<uint64_t> size = file.SizeBytes();
  if (!size.ok()) co_return size.status();
  const uint64_t begin = BlockOffsetBytes(chunk.physical);
  const uint64_t end = std::min(begin + BlockOffsetBytes(chunk.blocks), *size);
  std::vector<std::byte> bytes(begin < end ? end - begin : 0);
  if (!bytes.empty()) COWL_CO_RETURN_IF_ERROR(co_await file.Read(begin, bytes));
  co_return bytes;
}

// Whether a data file may hold this run.
bool IsPlaced(const SlotRun& run) {
  return run.physical >= Superblock::kFirstFreeBlock && run.physical < Extent::kPhysicalLimit &&
         run.blocks <= Extent::kPhysicalLimit - run.physical;
}

absl::Status CheckRanges(const JournalRecord& record, const Superblock& superblock,
                         const std::string& path) {
  const uint64_t limit = BlocksCeil(kDeviceBytesMax);
  bool ok = record.start <= limit && record.blocks <= limit - record.start;
  for (const SlotRun& run : record.runs) ok = ok && IsPlaced(run);
  if (record.type == JournalRecord::Type::kLink)
    ok = ok && IsPlaced(record.chunk) && record.chunk.blocks <= JournalRecord::kChunkBlocksMax;
  if (ok) return absl::OkStatus();
  return DataLoss(absl::StrCat(path, ": journal record ", record.order, " (generation ",
                               superblock.generation, ") names blocks that cannot be"));
}

// Every chunk keeps room for the link to the next, and for its copy at the very end.
absl::Status CheckRoomForLink(const JournalRecord& record, uint64_t end_bytes, const SlotRun& chunk,
                              const std::string& path) {
  const bool is_link = record.type == JournalRecord::Type::kLink;
  const uint64_t room = (is_link ? 1 : 2) * JournalRecord::kLinkBytes;
  if (end_bytes + room <= BlockOffsetBytes(chunk.blocks)) return absl::OkStatus();
  return DataLoss(absl::StrCat(path, ": journal record ", record.order,
                               " leaves its chunk at block ", chunk.physical,
                               " no room for a link"));
}

// Takes the records of the last chunk read, moving `position` along; true when they end with a link
// to another chunk.
absl::StatusOr<bool> ReadRecords(const Superblock& superblock, const std::string& path,
                                 JournalPosition& position, Chain& chain) {
  const std::span<const std::byte> bytes = chain.bytes.back();
  const auto chunk_index = static_cast<uint32_t>(chain.bytes.size() - 1);
  while (true) {
    const std::span<const std::byte> rest = bytes.subspan(position.offset_bytes);
    size_t length = 0;
    const std::optional<JournalRecord> record = DecodeRecord(rest, superblock.secret, &length);
    if (!record || !FollowsOn(*record, position, superblock)) {
      chain.rest.assign(rest.begin(), rest.end());
      return false;
    }
    COWL_RETURN_IF_ERROR(CheckRanges(*record, superblock, path));
    COWL_RETURN_IF_ERROR(
        CheckRoomForLink(*record, position.offset_bytes + length, position.chunk, path));
    chain.records.push_back(
        {chunk_index, static_cast<uint32_t>(position.offset_bytes), record->order});
    chain.durable_order = std::max(chain.durable_order, record->durable_order);
    position = After(*record, position, length);
    if (record->type == JournalRecord::Type::kLink) return true;
  }
}

bool Touches(const BlockSet& set, const SlotRun& run) {
  bool touches = false;
  set.Split(run, [&](const SlotRun&, bool is_member) { touches |= is_member; });
  return touches;
}

Task<absl::StatusOr<Chain>> ReadChain(File& file, const Superblock& superblock) {
  Chain chain;
  JournalPosition position{{superblock.journal_block, superblock.journal_blocks},
                           0,
                           superblock.checkpoint_order,
                           superblock.journal_check};
  chain.start = position;
  if (superblock.journal_blocks > JournalRecord::kChunkBlocksMax) {
    co_return DataLoss(absl::StrCat(file.path(), ": superblock: a journal chunk of ",
                                    superblock.journal_blocks, " blocks"));
  }
  BlockSet taken;
  while (position.chunk.blocks != 0) {
    // Before it is read: chunks that lie in each other may be as many as there are records.
    if (Touches(taken, position.chunk)) {
      co_return DataLoss(absl::StrCat(file.path(), ": the journal goes on in block ",
                                      position.chunk.physical, ", where it has been"));
    }
    taken.Add(position.chunk);
    absl::StatusOr<std::vector<std::byte>> read = co_await ReadChunk(file, position.chunk);
    if (!read.ok()) co_return read.status();
    chain.chunks.push_back(position.chunk);
    chain.bytes.push_back(*std::move(read));
    absl::StatusOr<bool> goes_on = ReadRecords(superblock, file.path(), position, chain);
    if (!goes_on.ok()) co_return goes_on.status();
    if (!*goes_on) break;
  }
  chain.end = position;
  co_return chain;
}

// What the bytes after the end of the chain say: later records of this journal, in whatever state
// the rest is.
struct Leftovers {
  uint64_t order = 0;
  uint64_t durable_order = 0;  // the highest that any of them names
  std::vector<SlotRun> links;
};

Leftovers FindLeftovers(std::span<const std::byte> bytes, uint64_t last_order,
                        const Superblock& superblock) {
  Leftovers found;
  for (size_t at = 0; at + JournalRecord::kHeaderBytes <= bytes.size(); at += 8) {
    size_t length = 0;
    const std::optional<JournalRecord> record =
        DecodeRecord(bytes.subspan(at), superblock.secret, &length);
    if (!record || record->order <= last_order || record->incarnation > superblock.incarnation)
      continue;
    if (record->durable_order > found.durable_order) {
      found.order = record->order;
      found.durable_order = record->durable_order;
    }
    if (record->type == JournalRecord::Type::kLink &&
        record->chunk.blocks <= JournalRecord::kChunkBlocksMax)
      found.links.push_back(record->chunk);
  }
  return found;
}

// The chain ended at `last_order`. A later record that knew a later order to be durable proves that
// the end is damage, not a crash's tail. Later records are looked for in the rest of the chunk, and
// in those that it links to. Returns the highest order that they know to be durable.
Task<absl::StatusOr<uint64_t>> CheckEndIsTail(File& file, const Chain& chain, uint64_t last_order,
                                              const Superblock& superblock) {
  uint64_t durable_order = 0;
  std::vector<std::byte> bytes = chain.rest;
  std::vector<SlotRun> to_read;
  absl::flat_hash_set<uint64_t> seen;
  while (true) {
    const Leftovers found = FindLeftovers(bytes, last_order, superblock);
    if (found.durable_order > last_order) {
      co_return DataLoss(absl::StrCat(file.path(), ": the journal is damaged after record ",
                                      last_order, ": record ", found.order, " says that all up to ",
                                      found.durable_order, " had been synced"));
    }
    durable_order = std::max(durable_order, found.durable_order);
    for (const SlotRun& chunk : found.links) {
      if (seen.insert(chunk.physical).second) to_read.push_back(chunk);
    }
    if (to_read.empty()) co_return durable_order;
    absl::StatusOr<std::vector<std::byte>> next = co_await ReadChunk(file, to_read.back());
    to_read.pop_back();
    if (!next.ok()) co_return next.status();
    bytes = *std::move(next);
  }
}

// Which blocks of a kWrite do not hold what the record says.
Task<absl::StatusOr<std::vector<uint64_t>>> BadBlocks(File& file, const JournalRecord& record,
                                                      uint64_t file_bytes) {
  std::vector<uint64_t> bad;
  std::vector<std::byte> data;
  uint64_t block = record.start;
  size_t sum = 0;
  for (const SlotRun& run : record.runs) {
    const uint64_t begin = BlockOffsetBytes(run.physical);
    // Data that lies beyond the end of the file was never written, or lost; what stands before it
    // counts all the same.
    const uint64_t readable =
        begin < file_bytes ? std::min(run.blocks, BlocksFloor(file_bytes - begin)) : 0;
    data.resize(BlockOffsetBytes(readable));
    if (readable != 0) COWL_CO_RETURN_IF_ERROR(co_await file.Read(begin, data));
    for (uint64_t i = 0; i < run.blocks; ++i, ++sum, ++block) {
      const bool holds = i < readable && Xxh3(std::span(data).subspan(
                                             i * kBlockBytes, kBlockBytes)) == record.sums[sum];
      if (!holds) bad.push_back(block);
    }
  }
  co_return bad;
}

// Tells, record by record, whether a mapping that is bad is live.
class BadMappings {
 public:
  void Apply(const JournalRecord& record, const std::vector<uint64_t>& bad) {
    if (!live_.empty() && record.blocks != 0) Erase(record.start, record.start + record.blocks);
    live_.insert(bad.begin(), bad.end());
  }
  bool any() const { return !live_.empty(); }

 private:
  void Erase(uint64_t begin, uint64_t end) {
    for (auto it = live_.begin(); it != live_.end();) {
      const auto here = it++;
      if (*here >= begin && *here < end) live_.erase(here);
    }
  }
  absl::flat_hash_set<uint64_t> live_;
};

// How many records of the chain hold: all up to `durable`, and then up to the last at which no live
// mapping is bad.
Task<absl::StatusOr<size_t>> CountHolding(File& file, const Chain& chain, uint64_t secret,
                                          uint64_t durable) {
  absl::StatusOr<uint64_t> file_bytes = file.SizeBytes();
  if (!file_bytes.ok()) co_return file_bytes.status();
  size_t holding = 0;
  BadMappings bad_mappings;
  for (size_t i = 0; i < chain.records.size(); ++i) {
    if (chain.records[i].order <= durable) {
      holding = i + 1;
      continue;
    }
    const JournalRecord record = chain.Decode(chain.records[i], secret);
    std::vector<uint64_t> bad;
    if (record.type == JournalRecord::Type::kWrite) {
      absl::StatusOr<std::vector<uint64_t>> found = co_await BadBlocks(file, record, *file_bytes);
      if (!found.ok()) co_return found.status();
      bad = *std::move(found);
    }
    bad_mappings.Apply(record, bad);
    if (!bad_mappings.any()) holding = i + 1;
  }
  co_return holding;
}

// The end of the chain without a link to a chunk that is not there: a crash took back that the file
// had been made longer, and whatever was in it. The next record goes where the link stood. To write
// on behind the end of the file instead would take all between for free space.
Task<absl::Status> DropLinkToNothing(File& file, uint64_t secret, Chain& chain) {
  if (chain.records.empty()) co_return absl::OkStatus();
  absl::StatusOr<uint64_t> file_bytes = file.SizeBytes();
  if (!file_bytes.ok()) co_return file_bytes.status();
  const JournalRecord last = chain.Decode(chain.records.back(), secret);
  const bool is_link = last.type == JournalRecord::Type::kLink;
  if (is_link && BlockOffsetBytes(last.chunk.physical) >= *file_bytes) chain.records.pop_back();
  co_return absl::OkStatus();
}

// Sorts out the slots that records above D took and gave up.
class TailSlots {
 public:
  // False when the record takes a slot that is taken.
  bool Add(const JournalRecord& record, const std::vector<SlotRun>& replaced) {
    for (const SlotRun& run : replaced) {
      std::vector<SlotRun> born_above;
      live_.Split(run, [&](const SlotRun& piece, bool is_tail) {
        (is_tail ? born_above : pinned_).push_back(piece);
      });
      for (const SlotRun& piece : born_above) live_.Remove(piece);
    }
    for (const SlotRun& run : record.runs) {
      if (Touches(live_, run)) return false;
      live_.Add(run);
    }
    return true;
  }
  void Finish(ReplayedJournal* replayed) {
    live_.ForEach([&](const SlotRun& run) { replayed->tail_slots.push_back(run); });
    replayed->pinned = std::move(pinned_);
  }

 private:
  BlockSet live_;  // born above D and still live
  std::vector<SlotRun> pinned_;
};

}  // namespace

JournalPosition After(const JournalRecord& record, JournalPosition position, size_t length_bytes) {
  position.offset_bytes += length_bytes;
  position.last_order = record.order;
  position.last_check = record.check;
  if (record.type == JournalRecord::Type::kLink) {
    position.chunk = record.chunk;
    position.offset_bytes = 0;
  }
  return position;
}

// Records above resume_order that carry an older incarnation are the tail that a recovery gave up.
bool FollowsOn(const JournalRecord& record, const JournalPosition& position,
               const Superblock& superblock) {
  const bool incarnation_ok = record.order > superblock.resume_order
                                  ? record.incarnation == superblock.incarnation
                                  : record.incarnation <= superblock.incarnation;
  return record.order == position.last_order + 1 && record.previous_check == position.last_check &&
         incarnation_ok;
}

Task<absl::StatusOr<ReplayedJournal>> ReplayJournal(File& file, const Superblock& superblock,
                                                    bool journal_is_durable, OverlayMap& map) {
  absl::StatusOr<Chain> chain = co_await ReadChain(file, superblock);
  if (!chain.ok()) co_return chain.status();
  const uint64_t last_order = chain->end.last_order;
  absl::StatusOr<uint64_t> known_later =
      co_await CheckEndIsTail(file, *chain, last_order, superblock);
  if (!known_later.ok()) co_return known_later.status();
  ReplayedJournal replayed;
  replayed.durable_order =
      journal_is_durable ? last_order
                         : std::max({superblock.resume_order, chain->durable_order, *known_later});
  if (replayed.durable_order > last_order) {
    co_return DataLoss(absl::StrCat(file.path(), ": the journal ends at record ", last_order,
                                    ", but all up to ", replayed.durable_order,
                                    " had been synced"));
  }
  absl::StatusOr<size_t> holding =
      co_await CountHolding(file, *chain, superblock.secret, replayed.durable_order);
  if (!holding.ok()) co_return holding.status();
  chain->records.resize(*holding);
  COWL_CO_RETURN_IF_ERROR(co_await DropLinkToNothing(file, superblock.secret, *chain));
  const uint64_t held_order =
      chain->records.empty() ? superblock.checkpoint_order : chain->records.back().order;
  replayed.durable_order = std::min(replayed.durable_order, held_order);

  TailSlots tail;
  replayed.position = chain->start;
  if (chain->start.chunk.blocks != 0) replayed.chunks.push_back(chain->start.chunk);
  std::vector<SlotRun> replaced;
  for (const ChainedRecord& at : chain->records) {
    const JournalRecord record = chain->Decode(at, superblock.secret);
    replaced.clear();
    map.Apply(record, &replaced);
    replayed.position = After(record, replayed.position, EncodedBytes(record));
    replayed.has_writes |=
        record.type == JournalRecord::Type::kWrite || record.type == JournalRecord::Type::kZero;
    if (record.type == JournalRecord::Type::kLink) replayed.chunks.push_back(record.chunk);
    if (record.type == JournalRecord::Type::kContinue) replayed.continues = record;
    replayed.seal.reset();
    if (record.type == JournalRecord::Type::kSeal) replayed.seal = record;
    if (record.order > replayed.durable_order && !tail.Add(record, replaced)) {
      co_return DataLoss(absl::StrCat(file.path(), ": journal record ", record.order,
                                      " takes a block that is in use"));
    }
  }
  tail.Finish(&replayed);
  co_return replayed;
}

}  // namespace cowl
