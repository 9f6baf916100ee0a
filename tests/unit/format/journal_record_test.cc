#include "format/journal_record.h"

#include <gtest/gtest.h>

#include <random>

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/units.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
using Type = JournalRecord::Type;

constexpr uint64_t kSecret = 0x0123456789abcdef;

Uuid SomeId() {
  Uuid id;
  for (uint8_t i = 0; i < 16; ++i) id.bytes[i] = static_cast<uint8_t>(i * 3 + 1);
  return id;
}

JournalRecord Sample(Type type) {
  JournalRecord record;
  record.type = type;
  record.previous_check = 0xaaaa;
  record.order = 42;
  record.durable_order = 40;
  record.incarnation = 5;
  switch (type) {
    case Type::kWrite:
      record.start = 1000;
      record.runs = {{77, 2}, {500, 1}};
      record.blocks = 3;
      record.sums = {1, 2, 3};
      break;
    case Type::kZero:
      record.start = 3;
      record.blocks = uint64_t{1} << 33;
      break;
    case Type::kLink:
      record.chunk = {99, 1024};
      break;
    case Type::kSeal:
      record.peer = SomeId();
      break;
    case Type::kContinue:
      record.peer = SomeId();
      record.peer_order = 12;
      record.peer_check = 13;
      break;
    case Type::kMark:
      break;
  }
  return record;
}

constexpr Type kTypes[] = {Type::kWrite, Type::kZero,     Type::kLink,
                           Type::kSeal,  Type::kContinue, Type::kMark};

void ExpectSame(const JournalRecord& a, const JournalRecord& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.previous_check, b.previous_check);
  EXPECT_EQ(a.order, b.order);
  EXPECT_EQ(a.durable_order, b.durable_order);
  EXPECT_EQ(a.incarnation, b.incarnation);
  EXPECT_EQ(a.start, b.start);
  EXPECT_EQ(a.blocks, b.blocks);
  EXPECT_EQ(a.runs, b.runs);
  EXPECT_EQ(a.sums, b.sums);
  EXPECT_EQ(a.chunk, b.chunk);
  EXPECT_EQ(a.peer, b.peer);
  EXPECT_EQ(a.peer_order, b.peer_order);
  EXPECT_EQ(a.peer_check, b.peer_check);
}

TEST(JournalRecord, EveryFieldStandsWhereTheFormatSays) {
  Bytes bytes;
  const uint64_t check = EncodeRecord(Sample(Type::kWrite), kSecret, bytes);
  ASSERT_EQ(bytes.size(), 48u + 8 + 2 * 8 + 3 * 8);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[0]), check);
  EXPECT_EQ(check, Xxh3(std::span(bytes).subspan(8), kSecret));
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[8]), 0xaaaau);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[16]), 42u);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[24]), 40u);
  EXPECT_EQ(LoadLittle<uint32_t>(&bytes[32]), 5u);
  EXPECT_EQ(LoadLittle<uint32_t>(&bytes[36]), bytes.size());
  EXPECT_EQ(LoadLittle<uint16_t>(&bytes[40]), 1u);
  EXPECT_EQ(LoadLittle<uint32_t>(&bytes[44]), 2u);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[48]), 1000u);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[56]), uint64_t{77} << 28 | 2);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[64]), uint64_t{500} << 28 | 1);
  EXPECT_EQ(LoadLittle<uint64_t>(&bytes[72]), 1u);
}

TEST(JournalRecord, AllTypesRoundTripWhateverFollows) {
  for (const Type type : kTypes) {
    Bytes bytes;
    const uint64_t check = EncodeRecord(Sample(type), kSecret, bytes);
    const size_t length = bytes.size();
    bytes.resize(bytes.size() + 200, std::byte{0x5a});
    size_t decoded_length = 0;
    const std::optional<JournalRecord> decoded = DecodeRecord(bytes, kSecret, &decoded_length);
    ASSERT_TRUE(decoded.has_value());
    EXPECT_EQ(decoded_length, length);
    EXPECT_EQ(decoded->check, check);
    ExpectSame(*decoded, Sample(type));
  }
}

TEST(JournalRecord, TheLargestFits) {
  JournalRecord record = Sample(Type::kWrite);
  record.runs.clear();
  record.sums.clear();
  for (uint64_t i = 0; i < JournalRecord::kBlocksMax; ++i) {
    record.runs.push_back({(uint64_t{1} << 36) - 1 - i, 1});
    record.sums.push_back(i);
  }
  record.blocks = JournalRecord::kBlocksMax;
  Bytes bytes;
  EncodeRecord(record, kSecret, bytes);
  EXPECT_EQ(bytes.size(), JournalRecord::kBytesMax);
  size_t length = 0;
  const std::optional<JournalRecord> decoded = DecodeRecord(bytes, kSecret, &length);
  ASSERT_TRUE(decoded.has_value());
  ExpectSame(*decoded, record);
}

TEST(JournalRecord, EveryFlippedBitAndEveryCutIsSeen) {
  for (const Type type : kTypes) {
    Bytes good;
    EncodeRecord(Sample(type), kSecret, good);
    size_t length = 0;
    for (size_t bit = 0; bit < good.size() * 8; ++bit) {
      Bytes bad = good;
      bad[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      EXPECT_FALSE(DecodeRecord(bad, kSecret, &length).has_value()) << bit;
    }
    for (size_t cut = 0; cut < good.size(); ++cut) {
      EXPECT_FALSE(DecodeRecord(std::span(good).first(cut), kSecret, &length).has_value()) << cut;
      Bytes torn = good;
      std::fill(torn.begin() + static_cast<ptrdiff_t>(cut), torn.end(), std::byte{0});
      if (torn != good) {
        EXPECT_FALSE(DecodeRecord(torn, kSecret, &length).has_value()) << cut;
      }
    }
  }
}

// A guest that writes a record of its own into its disk does not know the secret.
TEST(JournalRecord, AnotherFilesRecordIsNone) {
  Bytes bytes;
  EncodeRecord(Sample(Type::kZero), kSecret + 1, bytes);
  size_t length = 0;
  EXPECT_FALSE(DecodeRecord(bytes, kSecret, &length).has_value());
  EXPECT_FALSE(DecodeRecord(Bytes(64), 0, &length).has_value());
}

Bytes Resealed(Bytes bytes) {
  StoreLittle(bytes.data(), Xxh3(std::span(bytes).subspan(8), kSecret));
  return bytes;
}

TEST(JournalRecord, RefusesWhatCannotBeThoughItsCheckHolds) {
  const auto decodes = [](const Bytes& bytes) {
    size_t length = 0;
    return DecodeRecord(bytes, kSecret, &length).has_value();
  };
  Bytes write;
  EncodeRecord(Sample(Type::kWrite), kSecret, write);
  ASSERT_TRUE(decodes(Resealed(write)));
  const auto altered = [&](size_t at, auto value) {
    Bytes bytes = write;
    StoreLittle(&bytes[at], value);
    return Resealed(bytes);
  };
  EXPECT_FALSE(decodes(altered(40, uint16_t{9}))) << "an unknown type";
  EXPECT_FALSE(decodes(altered(40, uint16_t{2}))) << "runs in a record that has none";
  EXPECT_FALSE(decodes(altered(44, uint32_t{0}))) << "no runs";
  EXPECT_FALSE(decodes(altered(44, uint32_t{3}))) << "more runs than sums";
  EXPECT_FALSE(decodes(altered(44, UINT32_MAX))) << "runs without end";
  EXPECT_FALSE(decodes(altered(56, uint64_t{77} << 28))) << "an empty run";
  EXPECT_FALSE(decodes(altered(56, uint64_t{77} << 28 | 257))) << "a run that is too long";
  EXPECT_FALSE(decodes(altered(56, uint64_t{77} << 28 | 3))) << "fewer sums than blocks";
  Bytes zero;
  EncodeRecord(Sample(Type::kZero), kSecret, zero);
  StoreLittle<uint64_t>(&zero[56], 0);
  EXPECT_FALSE(decodes(Resealed(zero))) << "an empty range";
  Bytes link;
  EncodeRecord(Sample(Type::kLink), kSecret, link);
  StoreLittle<uint64_t>(&link[48], uint64_t{1} << 36);
  EXPECT_FALSE(decodes(Resealed(link))) << "a chunk beyond all files";
}

TEST(JournalRecord, RandomPayloadsWithAGoodCheckNeverCrash) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 50'000; ++i) {
    Bytes bytes;
    EncodeRecord(Sample(kTypes[random() % 6]), kSecret, bytes);
    for (int j = 0; j < 3; ++j)
      StoreLittle<uint32_t>(&bytes[40 + random() % ((bytes.size() - 40) / 4) * 4],
                            static_cast<uint32_t>(random() >> random() % 64));
    size_t length = 0;
    const std::optional<JournalRecord> decoded = DecodeRecord(Resealed(bytes), kSecret, &length);
    if (!decoded) continue;
    EXPECT_EQ(length, bytes.size());
    EXPECT_EQ(decoded->sums.size(), decoded->type == Type::kWrite ? decoded->blocks : 0);
  }
}

}  // namespace
}  // namespace cowl
