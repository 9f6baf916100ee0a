#include "format/journal_record.h"

#include <cstring>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/status.h"

namespace cowl {
namespace {

// A run is packed into one word: physical block above, number of blocks below.
constexpr unsigned kRunShift = 28;
constexpr uint64_t kRunMask = (1ull << kRunShift) - 1;
constexpr uint64_t kBlockLimit = 1ull << 36;

constexpr size_t kCheckedFrom = 8;
constexpr size_t kLengthAt = 36;

// How long the record at the start of `from` says that it is, where that can be.
std::optional<size_t> LengthOf(std::span<const std::byte> from) {
  if (from.size() < JournalRecord::kHeaderBytes) return std::nullopt;
  const size_t length = LoadLittle<uint32_t>(from.data() + kLengthAt);
  const bool can_be = length >= JournalRecord::kHeaderBytes && length % 8 == 0 &&
                      length <= JournalRecord::kBytesMax && length <= from.size();
  return can_be ? std::optional(length) : std::nullopt;
}

class Writer {
 public:
  explicit Writer(std::vector<std::byte>& out) : out_(out) {}
  template <typename T>
  void Put(T value) {
    const size_t at = out_.size();
    out_.resize(at + sizeof(T));
    StoreLittle(out_.data() + at, value);
  }
  void Put(const Uuid& id) {
    const auto bytes = std::as_bytes(std::span(id.bytes));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }

 private:
  std::vector<std::byte>& out_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> from) : from_(from) {}
  size_t left() const { return from_.size(); }
  uint64_t Take() {
    const uint64_t value = LoadLittle<uint64_t>(from_.data());
    from_ = from_.subspan(8);
    return value;
  }
  Uuid TakeUuid() {
    Uuid id;
    std::memcpy(id.bytes.data(), from_.data(), 16);
    from_ = from_.subspan(16);
    return id;
  }

 private:
  std::span<const std::byte> from_;
};

void PutPayload(const JournalRecord& record, Writer& writer) {
  switch (record.type) {
    case JournalRecord::Type::kWrite:
      writer.Put(record.start);
      for (const SlotRun& run : record.runs) writer.Put(run.physical << kRunShift | run.blocks);
      for (const uint64_t sum : record.sums) writer.Put(sum);
      return;
    case JournalRecord::Type::kZero:
      writer.Put(record.start);
      writer.Put(record.blocks);
      return;
    case JournalRecord::Type::kLink:
      writer.Put(record.chunk.physical);
      writer.Put(record.chunk.blocks);
      return;
    case JournalRecord::Type::kSeal:
      writer.Put(record.peer);
      return;
    case JournalRecord::Type::kContinue:
      writer.Put(record.peer);
      writer.Put(record.peer_order);
      writer.Put(record.peer_check);
      return;
    case JournalRecord::Type::kMark:
      for (size_t i = 0; i < JournalRecord::kMarkPaddingBytes; i += 8) writer.Put(uint64_t{0});
      return;
  }
}

bool TakeWrite(JournalRecord& record, size_t run_count, Reader& reader) {
  if (reader.left() < 8 + 8 * run_count || run_count == 0) return false;
  record.start = reader.Take();
  for (size_t i = 0; i < run_count; ++i) {
    const uint64_t packed = reader.Take();
    const SlotRun run{packed >> kRunShift, packed & kRunMask};
    if (run.blocks == 0 || run.blocks > JournalRecord::kBlocksMax) return false;
    record.runs.push_back(run);
    record.blocks += run.blocks;
  }
  if (record.blocks > JournalRecord::kBlocksMax || reader.left() != 8 * record.blocks) return false;
  for (uint64_t i = 0; i < record.blocks; ++i) record.sums.push_back(reader.Take());
  return true;
}

bool TakePayload(JournalRecord& record, size_t run_count, Reader& reader) {
  const bool is_write = record.type == JournalRecord::Type::kWrite;
  if (is_write) return TakeWrite(record, run_count, reader);
  if (run_count != 0) return false;
  switch (record.type) {
    case JournalRecord::Type::kZero:
      if (reader.left() != 16) return false;
      record.start = reader.Take();
      record.blocks = reader.Take();
      return record.blocks != 0;
    case JournalRecord::Type::kLink:
      if (reader.left() != 16) return false;
      record.chunk.physical = reader.Take();
      record.chunk.blocks = reader.Take();
      return record.chunk.blocks != 0 && record.chunk.physical < kBlockLimit &&
             record.chunk.blocks < kBlockLimit;
    case JournalRecord::Type::kSeal:
      if (reader.left() != 16) return false;
      record.peer = reader.TakeUuid();
      return true;
    case JournalRecord::Type::kContinue:
      if (reader.left() != 32) return false;
      record.peer = reader.TakeUuid();
      record.peer_order = reader.Take();
      record.peer_check = reader.Take();
      return true;
    case JournalRecord::Type::kMark:
      return reader.left() == JournalRecord::kMarkPaddingBytes;
    default:
      return false;
  }
}

}  // namespace

size_t EncodedBytes(const JournalRecord& record) {
  switch (record.type) {
    case JournalRecord::Type::kWrite:
      return JournalRecord::kHeaderBytes + 8 + 8 * record.runs.size() + 8 * record.sums.size();
    case JournalRecord::Type::kContinue:
      return JournalRecord::kHeaderBytes + 32;
    case JournalRecord::Type::kMark:
      return JournalRecord::kHeaderBytes + JournalRecord::kMarkPaddingBytes;
    default:
      return JournalRecord::kHeaderBytes + 16;
  }
}

uint64_t EncodeRecord(const JournalRecord& record, uint64_t secret, std::vector<std::byte>& out) {
  const size_t at = out.size();
  Writer writer(out);
  writer.Put(uint64_t{0});
  writer.Put(record.previous_check);
  writer.Put(record.order);
  writer.Put(record.durable_order);
  writer.Put(record.incarnation);
  writer.Put(uint32_t{0});
  writer.Put(static_cast<uint16_t>(record.type));
  writer.Put(uint16_t{0});
  writer.Put(static_cast<uint32_t>(record.runs.size()));
  PutPayload(record, writer);
  StoreLittle(out.data() + at + kLengthAt, static_cast<uint32_t>(out.size() - at));
  COWL_CHECK(FinishRecord(std::span(out).subspan(at), secret));
  return LoadLittle<uint64_t>(out.data() + at);
}

bool FinishRecord(std::span<std::byte> from, uint64_t secret) {
  const std::optional<size_t> length = LengthOf(from);
  if (!length) return false;
  StoreLittle(from.data(), Xxh3(from.subspan(kCheckedFrom, *length - kCheckedFrom), secret));
  return true;
}

std::optional<JournalRecord> DecodeRecord(std::span<const std::byte> from, uint64_t secret,
                                          size_t* length_bytes) {
  const std::optional<size_t> length = LengthOf(from);
  if (!length) return std::nullopt;
  JournalRecord record;
  record.check = LoadLittle<uint64_t>(from.data());
  if (record.check != Xxh3(from.subspan(kCheckedFrom, *length - kCheckedFrom), secret))
    return std::nullopt;
  record.previous_check = LoadLittle<uint64_t>(from.data() + 8);
  record.order = LoadLittle<uint64_t>(from.data() + 16);
  record.durable_order = LoadLittle<uint64_t>(from.data() + 24);
  record.incarnation = LoadLittle<uint32_t>(from.data() + 32);
  record.type = static_cast<JournalRecord::Type>(LoadLittle<uint16_t>(from.data() + 40));
  Reader reader(from.subspan(JournalRecord::kHeaderBytes, *length - JournalRecord::kHeaderBytes));
  if (!TakePayload(record, LoadLittle<uint32_t>(from.data() + 44), reader)) return std::nullopt;
  *length_bytes = *length;
  return record;
}

}  // namespace cowl
