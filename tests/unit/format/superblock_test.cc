#include "format/superblock.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "base/bytes.h"
#include "base/checksum.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;

Superblock Sample() {
  Superblock sample;
  sample.kind = DataFileKind::kOverlay;
  for (uint8_t i = 0; i < 16; ++i) sample.id.bytes[i] = static_cast<uint8_t>(0xa0 + i);
  for (uint8_t i = 0; i < 16; ++i) sample.parent.bytes[i] = i;
  sample.generation = 7;
  sample.secret = 0x1122334455667788;
  sample.size_bytes = 10 * kGiB + 512;
  sample.incarnation = 3;
  sample.clean = true;
  sample.created_ns = 1'700'000'000'000'000'000;
  sample.checkpoint_order = 99;
  sample.stored_blocks = 1234;
  sample.map = {100, 1, 256, 0xdeadbeef};
  sample.sum_pages = {101, 1, 512, 0xfeedface};
  sample.files = {102, 1, 2, 0xcafe};
  sample.journal_block = 200;
  sample.journal_blocks = 16;
  sample.journal_check = 0x5555;
  sample.resume_order = 105;
  sample.created_by = "commit of vm-1";
  return sample;
}

Bytes Encoded(const Superblock& superblock) {
  Bytes block(kBlockBytes);
  EncodeSuperblock(superblock, block);
  return block;
}

// As an attacker or a bug would: any change, with a check that holds.
Bytes Resealed(Bytes block) {
  StoreLittle(block.data() + 8, Xxh3(std::span(block).subspan(16, kSectorBytes - 16)));
  return block;
}

TEST(Superblock, EveryFieldStandsWhereTheFormatSays) {
  const Bytes block = Encoded(Sample());
  EXPECT_EQ(AsText(std::span(block).first(8)), "COWLDATA");
  EXPECT_EQ(LoadLittle<uint64_t>(&block[8]), Xxh3(std::span(block).subspan(16, 496)));
  EXPECT_EQ(LoadLittle<uint32_t>(&block[16]), 1u);
  EXPECT_EQ(LoadLittle<uint32_t>(&block[20]), 2u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[24]), 0u);
  EXPECT_EQ(std::to_integer<int>(block[48]), 0xa0);
  EXPECT_EQ(std::to_integer<int>(block[79]), 15);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[80]), 7u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[88]), 0x1122334455667788u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[96]), 10 * kGiB + 512);
  EXPECT_EQ(LoadLittle<uint32_t>(&block[104]), 3u);
  EXPECT_EQ(LoadLittle<uint32_t>(&block[108]), 1u);
  EXPECT_EQ(LoadLittle<int64_t>(&block[112]), 1'700'000'000'000'000'000);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[120]), 99u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[128]), 1234u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[136]), 100u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[160]), 0xdeadbeefu);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[168]), 101u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[200]), 102u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[232]), 200u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[240]), 16u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[248]), 0x5555u);
  EXPECT_EQ(LoadLittle<uint64_t>(&block[256]), 105u);
  EXPECT_EQ(LoadLittle<uint16_t>(&block[264]), 14u);
  EXPECT_EQ(AsText(std::span(block).subspan(266, 14)), "commit of vm-1");
  EXPECT_TRUE(IsZero(std::span(block).subspan(466)));
  // The whole of it: a change of the format shows here.
  EXPECT_EQ(Xxh3(block), 5185318392170505088ull) << "golden value";
}

TEST(Superblock, RoundTrips) {
  const absl::StatusOr<Superblock> decoded = DecodeSuperblock(Encoded(Sample()), "f");
  ASSERT_OK(decoded);
  EXPECT_EQ(*decoded, Sample());
  Superblock plain;
  plain.id = Sample().id;
  plain.size_bytes = 512;
  plain.created_by = std::string(Superblock::kCreatedByBytesMax, 'x');
  EXPECT_EQ(*DecodeSuperblock(Encoded(plain), "f"), plain);
}

// Of what a newer version says in its three ways, the one that does no harm outlives a rewrite by
// this version, and the one that would no longer be true does not.
TEST(Superblock, WritingAnewKeepsTheFeaturesToIgnoreAndClearsThoseToClear) {
  Bytes newer = Encoded(Sample());
  StoreLittle(newer.data() + 32, uint64_t{1} << 63 | 4);
  StoreLittle(newer.data() + 40, uint64_t{8});
  const absl::StatusOr<Superblock> decoded = DecodeSuperblock(Resealed(newer), "f");
  ASSERT_OK(decoded);
  const Bytes rewritten = Encoded(*decoded);
  EXPECT_EQ(LoadLittle<uint64_t>(&rewritten[32]), uint64_t{1} << 63 | 4);
  EXPECT_EQ(LoadLittle<uint64_t>(&rewritten[40]), 0u);
}

TEST(Superblock, EveryFlippedBitIsSeen) {
  const Bytes good = Encoded(Sample());
  for (size_t at = 0; at < kBlockBytes; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      Bytes bad = good;
      bad[at] ^= static_cast<std::byte>(1 << bit);
      const absl::StatusOr<Superblock> decoded = DecodeSuperblock(bad, "layers/f");
      ASSERT_THAT(decoded, IsCode(absl::StatusCode::kDataLoss)) << at << " " << bit;
      ASSERT_THAT(decoded, SaysThat("layers/f"));
    }
  }
}

TEST(Superblock, EveryTornSectorIsSeen) {
  const Bytes good = Encoded(Sample());
  for (size_t cut = 1; cut < kSectorBytes; ++cut) {
    Bytes torn(kBlockBytes);
    std::copy_n(good.begin(), cut, torn.begin());
    if (torn == good) continue;  // what is missing was zero
    ASSERT_FALSE(DecodeSuperblock(torn, "f").ok()) << cut;
  }
}

TEST(Superblock, RefusesNewerFormats) {
  Bytes block = Encoded(Sample());
  StoreLittle<uint32_t>(&block[16], 2);
  EXPECT_THAT(DecodeSuperblock(Resealed(block), "f"),
              IsCode(absl::StatusCode::kFailedPrecondition));
  block = Encoded(Sample());
  StoreLittle<uint64_t>(&block[24], 1);
  EXPECT_THAT(DecodeSuperblock(Resealed(block), "f"),
              IsCode(absl::StatusCode::kFailedPrecondition));
  // Bits of the other two classes do no harm.
  block = Encoded(Sample());
  StoreLittle<uint64_t>(&block[32], 0xff);
  StoreLittle<uint64_t>(&block[40], 0xff);
  EXPECT_OK(DecodeSuperblock(Resealed(block), "f"));
}

// Values that a damaged or hostile file can hold with a check that fits.
TEST(Superblock, RefusesWhatCannotBe) {
  struct Case {
    size_t at;
    uint64_t value;
    const char* what;
  };
  const Case cases[] = {
      {20, 0x0000000300000000 >> 32, "kind 3"},
      {80, 0, "generation 0"},
      {80, Superblock::kCountLimit + 1, "a generation nobody gets to"},
      {104, Superblock::kIncarnationLimit, "an incarnation nobody gets to"},
      {120, Superblock::kCountLimit, "an order nobody gets to"},
      {256, Superblock::kCountLimit, "the same for the resume order"},
      {96, 0, "no size"},
      {96, 513, "a size that is no multiple of a sector"},
      {96, kDeviceBytesMax + 512, "too large"},
      {104, uint64_t{2} << 32, "an unknown flag"},
      {136, 1, "a map over the superblocks"},
      {136, UINT64_MAX, "a map beyond all"},
      {144, 2, "more blocks than the entries take"},
      {152, UINT64_MAX, "a hostile number of entries"},
      {152, uint64_t{1} << 60, "entries that overflow when multiplied"},
      {184, uint64_t{1} << 61, "the same for checksum pages"},
      {216, uint64_t{1} << 60, "the same for files"},
      {232, 0, "a journal at 0 with blocks"},
      {240, 0, "a journal without blocks"},
      {232, UINT64_MAX - 3, "a journal that wraps around"},
      {240, UINT64_MAX, "a journal without end"},
      {264, 0xffff, "a text that is too long"},
  };
  for (const Case& bad : cases) {
    Bytes block = Encoded(Sample());
    StoreLittle<uint64_t>(&block[bad.at], bad.value);
    EXPECT_THAT(DecodeSuperblock(Resealed(block), "f"), IsCode(absl::StatusCode::kDataLoss))
        << bad.what;
  }
  Bytes nil_id = Encoded(Sample());
  std::fill_n(nil_id.begin() + 48, 16, std::byte{0});
  EXPECT_FALSE(DecodeSuperblock(Resealed(nil_id), "f").ok());
}

TEST(Superblock, RandomBytesWithAGoodCheckNeverCrash) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 20'000; ++i) {
    Bytes block = Encoded(Sample());
    for (int j = 0; j < 4; ++j)
      StoreLittle<uint64_t>(&block[16 + random() % 60 * 8], random() >> random() % 64);
    const absl::StatusOr<Superblock> decoded = DecodeSuperblock(Resealed(block), "f");
    if (decoded.ok()) {
      EXPECT_LE(decoded->map.blocks * kBlockBytes, decoded->map.entries * 16 + kBlockBytes);
    }
  }
}

Bytes Pair(const Bytes& first, const Bytes& second) {
  Bytes both = first;
  both.insert(both.end(), second.begin(), second.end());
  return both;
}

TEST(ChooseSuperblock, TakesTheNewer) {
  Superblock even = Sample();
  even.generation = 8;
  const Bytes odd_block = Encoded(Sample());
  const Bytes even_block = Encoded(even);
  EXPECT_EQ(ChooseSuperblock(Pair(even_block, odd_block), "f")->generation, 8u);
  even.generation = 6;
  EXPECT_EQ(ChooseSuperblock(Pair(Encoded(even), odd_block), "f")->generation, 7u);
}

// Both are written when the file is made: an empty one was lost, and may have been the newer.
TEST(ChooseSuperblock, RefusesWhenOneIsGone) {
  Superblock even = Sample();
  even.generation = 8;
  const Bytes zero(kBlockBytes);
  EXPECT_THAT(ChooseSuperblock(Pair(zero, Encoded(Sample())), "f"),
              SaysThat("one of the two is gone"));
  EXPECT_THAT(ChooseSuperblock(Pair(Encoded(even), zero), "f"), SaysThat("one of the two is gone"));
  EXPECT_THAT(ChooseSuperblock(Pair(zero, zero), "f"), SaysThat("no superblock"));
}

TEST(ChooseSuperblock, RefusesTwoOfDifferentFiles) {
  Superblock even = Sample();
  even.generation = 8;
  even.id = Uuid::Random();
  EXPECT_THAT(ChooseSuperblock(Pair(Encoded(even), Encoded(Sample())), "f"),
              SaysThat("different files"));
}

// A damaged one may have been the newer one: the other would show an old state.
TEST(ChooseSuperblock, RefusesWhenEitherIsDamaged) {
  Superblock even = Sample();
  even.generation = 8;
  const Bytes both = Pair(Encoded(even), Encoded(Sample()));
  for (size_t at = 0; at < both.size(); at += 7) {
    Bytes bad = both;
    bad[at] ^= std::byte{0x10};
    EXPECT_THAT(ChooseSuperblock(bad, "f"), IsCode(absl::StatusCode::kDataLoss)) << at;
  }
  EXPECT_THAT(ChooseSuperblock(Pair(Encoded(Sample()), Encoded(even)), "f"),
              SaysThat("wrong place"));
}

}  // namespace
}  // namespace cowl
