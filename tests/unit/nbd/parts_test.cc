// The smaller parts: contexts, holes of a read, URIs, the buffer pool, the input buffer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/bytes.h"
#include "nbd/buffer_pool.h"
#include "nbd/command.h"
#include "nbd/input_buffer.h"
#include "nbd/meta_context.h"
#include "nbd/uri.h"

namespace cowl::nbd {

void PrintTo(const Fragment& f, std::ostream* out) { *out << f.offset_bytes << "+" << f.length_bytes << (f.is_hole ? "h" : "d"); }
void PrintTo(const StatusExtent& e, std::ostream* out) { *out << e.length_bytes << ":" << e.status; }

namespace {

using testing::ElementsAre;
using testing::IsEmpty;
constexpr auto kData = MapExtent::Type::kData;
constexpr auto kZero = MapExtent::Type::kZero;

// --- Contexts --------------------------------------------------------------------------------------------------------------

TEST(MetaContextTest, AllocationMergesWhatDiffersInDepthAlone) {
  const MapExtent extents[] = {{0, 4096, kData, 1}, {4096, 4096, kData, 2}, {8192, 512, kZero, 0}, {8704, 512, kZero, 1}};
  EXPECT_THAT(DescribeExtents(kAllocationContext, extents, false), ElementsAre(StatusExtent{8192, 0}, StatusExtent{1024, 3}));
}

TEST(MetaContextTest, DepthMergesWhatDiffersInTypeAlone) {
  const MapExtent extents[] = {{0, 4096, kData, 1}, {4096, 4096, kZero, 1}, {8192, 512, kZero, 0}, {8704, 512, kData, 255}};
  EXPECT_THAT(DescribeExtents(kDepthContext, extents, false),
              ElementsAre(StatusExtent{8192, 1}, StatusExtent{512, 0}, StatusExtent{512, 255}));
}

TEST(MetaContextTest, OneExtentIsTheWholeFirstRun) {
  const MapExtent extents[] = {{0, 4096, kData, 1}, {4096, 4096, kData, 2}, {8192, 512, kZero, 0}};
  EXPECT_THAT(DescribeExtents(kAllocationContext, extents, true), ElementsAre(StatusExtent{8192, 0}));
  EXPECT_THAT(DescribeExtents(kDepthContext, extents, true), ElementsAre(StatusExtent{4096, 1}));
}

TEST(MetaContextTest, NoExtentIsEmptyOrLongerThanItsField) {
  const MapExtent extents[] = {{0, ~0u, kData, 1}, {~0u, 4096, kData, 1}, {1ull << 33, 4096, kZero, 1}};
  EXPECT_THAT(DescribeExtents(kAllocationContext, extents, false), ElementsAre(StatusExtent{~0u, 0}));
  const MapExtent empty[] = {{0, 0, kData, 1}};
  EXPECT_THAT(DescribeExtents(kAllocationContext, empty, false), IsEmpty());
}

// --- Reads with holes ------------------------------------------------------------------------------------------------------

TEST(PlanFragmentsTest, LongZeroRunsAreHolesAndShortOnesData) {
  const MapExtent extents[] = {
      {100, 4096, kZero, 0}, {4196, 1000, kData, 1}, {5196, 4095, kZero, 1}, {9291, 5000, kData, 2}, {14291, 8192, kZero, 1}};
  EXPECT_THAT(PlanFragments(100, 22383, extents),
              ElementsAre(Fragment{100, 4096, true}, Fragment{4196, 10095, false}, Fragment{14291, 8192, true}));
}

TEST(PlanFragmentsTest, WhatTheMapDoesNotCoverIsData) {
  const MapExtent extents[] = {{0, 8192, kZero, 0}};
  EXPECT_THAT(PlanFragments(0, 65536, extents), ElementsAre(Fragment{0, 8192, true}, Fragment{8192, 57344, false}));
  EXPECT_THAT(PlanFragments(0, 65536, {}), ElementsAre(Fragment{0, 65536, false}));
}

TEST(PlanFragmentsTest, AMapThatDoesNotFitTheRangeIsNotTrusted) {
  const MapExtent elsewhere[] = {{4096, 8192, kZero, 0}};
  EXPECT_THAT(PlanFragments(0, 65536, elsewhere), ElementsAre(Fragment{0, 65536, false}));
  const MapExtent too_long[] = {{0, 1 << 20, kZero, 0}};
  EXPECT_THAT(PlanFragments(0, 65536, too_long), ElementsAre(Fragment{0, 65536, false}));
}

// --- URIs ------------------------------------------------------------------------------------------------------------------

TEST(UriTest, NamesAndPathsArePercentEncoded) {
  EXPECT_EQ(UnixUri("/run/cowl.sock"), "nbd+unix:///?socket=/run/cowl.sock");
  EXPECT_EQ(UnixUri("/a b&c", "deb:12"), "nbd+unix:///deb:12?socket=/a%20b%26c");
  EXPECT_EQ(TcpUri("127.0.0.1", 10809), "nbd://127.0.0.1:10809");
  EXPECT_EQ(TcpUri("::1", 1, "a/b%\xc3\xa4"), "nbd://[::1]:1/a%2Fb%25%C3%A4");
}

TEST(UriTest, AListenersUriBecomesAnExports) {
  EXPECT_EQ(UriForExport("nbd+unix:///?socket=/s", "x y"), "nbd+unix:///x%20y?socket=/s");
  EXPECT_EQ(UriForExport("nbd://127.0.0.1:10809", "x"), "nbd://127.0.0.1:10809/x");
  EXPECT_EQ(UriForExport("nbd://127.0.0.1:10809", ""), "nbd://127.0.0.1:10809");
}

// --- Buffers ---------------------------------------------------------------------------------------------------------------

TEST(BufferPoolTest, BlocksAreLargeEnoughAlignedAndReused) {
  BufferPool pool;
  const std::byte* data;
  {
    const BufferRef block = pool.Take(5000);
    EXPECT_EQ(block.size_bytes(), 8192u);
    data = block.bytes().data();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 4096, 0u);
  }
  EXPECT_EQ(pool.Take(8192).bytes().data(), data);
  EXPECT_EQ(pool.Take(0).size_bytes(), 4096u);
  EXPECT_EQ(pool.Take(BufferPool::kBlockBytesMax).size_bytes(), BufferPool::kBlockBytesMax);
}

TEST(BufferPoolTest, ABlockIsKeptUntilItsLastOwnerGoes) {
  BufferPool pool;
  BufferRef first = pool.Take(4096);
  BufferRef second = first;
  EXPECT_TRUE(first.shared());
  first = BufferRef();
  EXPECT_EQ(pool.used_bytes(), 4096u);
  EXPECT_FALSE(second.shared());
  second = BufferRef();
  EXPECT_EQ(pool.used_bytes(), 0u);
}

TEST(BufferPoolTest, AnIdlePoolKeepsLittle) {
  BufferPool pool;
  std::vector<BufferRef> blocks;
  for (int i = 0; i < 100; ++i) blocks.push_back(pool.Take(kMiB));
  blocks.resize(50);
  EXPECT_EQ(pool.kept_bytes(), 50 * kMiB);  // as much as is in use
  blocks.clear();
  EXPECT_LE(pool.kept_bytes(), BufferPool::kKeptBytesMin);
  EXPECT_EQ(pool.used_bytes(), 0u);
}

class InputBufferTest : public testing::Test {
 protected:
  void Receive(std::string_view text, size_t wanted = 1, size_t block_bytes = 32 * kKiB) {
    const auto room = input_.Room(wanted, block_bytes);
    ASSERT_GE(room.size(), text.size());
    std::memcpy(room.data(), text.data(), text.size());
    input_.Commit(text.size());
  }
  std::string_view unread() const { return AsText(input_.unread()); }

  BufferPool pool_;
  InputBuffer input_{pool_};
};

TEST_F(InputBufferTest, GivesBackWhatWasReceivedInOrder) {
  Receive("abc");
  Receive("def");
  EXPECT_EQ(unread(), "abcdef");
  input_.Consume(4);
  Receive("g");
  EXPECT_EQ(unread(), "efg");
}

TEST_F(InputBufferTest, BytesWithAnOwnerStayWhereTheyAre) {
  const std::string first(20 * kKiB, 'a');
  Receive(first);
  const BufferRef owner = input_.owner();
  const std::string_view kept = unread();
  input_.Consume(first.size());
  for (int i = 0; i < 10; ++i) {
    Receive(std::string(10 * kKiB, 'b'), 28);
    input_.Consume(10 * kKiB);
  }
  EXPECT_EQ(kept, first);
}

TEST_F(InputBufferTest, AnUnfinishedRequestMovesToWhereTheRestFits) {
  Receive(std::string(8000, 'x'), 28, 8 * kKiB);
  input_.Consume(7900);
  const auto room = input_.Room(8 * kKiB, 32 * kKiB);
  EXPECT_EQ(unread(), std::string(100, 'x'));
  EXPECT_GE(room.size() + 100, 8 * kKiB);
}

TEST_F(InputBufferTest, AnIdleConnectionGoesBackToASmallBlock) {
  Receive("x", 28, 32 * kKiB);
  input_.Consume(1);
  input_.Room(28, 8 * kKiB);
  EXPECT_EQ(pool_.used_bytes(), 8 * kKiB);
}

TEST_F(InputBufferTest, AppendKeepsWhatIsThere) {
  input_.Append(AsBytes("abc"));
  input_.Append({});
  input_.Append(AsBytes("def"));
  EXPECT_EQ(unread(), "abcdef");
}

}  // namespace
}  // namespace cowl::nbd
