// SumTable: what it answers is what the file holds, whatever it keeps, lets go or is told to
// forget.
#include <gtest/gtest.h>

#include <random>

#include "format/checksum_page.h"
#include "io/memory_storage.h"
#include "layer/data_file.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

constexpr uint64_t kPages = 6;

class SumTableTest : public testing::Test {
 protected:
  void SetUp() override {
    auto file = storage_.Open("sums", OpenMode::kCreate);
    ASSERT_OK(file);
    file_ = *std::move(file);
  }

  // The checksum of `physical` is a number of its own, with `version` in it.
  static uint64_t SumOf(uint64_t physical, uint64_t version) { return physical * 1000 + version; }

  void WritePage(uint64_t index, uint64_t block, uint64_t version) {
    std::vector<std::byte> page(kBlockBytes);
    for (uint64_t i = 0; i < kSumsPerPage; ++i) {
      const uint64_t physical = index * kSumsPerPage + i;
      StoreSum(page, physical, SumOf(physical, version));
    }
    FinishSumPage(page, index);
    ASSERT_OK(RunInline(WriteAt(*file_, block, page)));
  }

  static Task<absl::Status> WriteAt(File& file, uint64_t block, std::span<const std::byte> page) {
    co_return co_await file.Write(BlockOffsetBytes(block), page);
  }

  MemoryStorage storage_;
  std::unique_ptr<File> file_;
};

TEST_F(SumTableTest, KeepsFewPagesAndAnswersAll) {
  std::vector<uint64_t> blocks;
  for (uint64_t i = 0; i < kPages; ++i) {
    blocks.push_back(10 + i);
    WritePage(i, blocks[i], 1);
  }
  SumTable table(*file_, blocks, /*kept_pages_max=*/2);
  std::mt19937_64 random(1);
  for (int round = 0; round < 2000; ++round) {
    const uint64_t begin = random() % (kPages * kSumsPerPage - 600);
    std::vector<uint64_t> sums(1 + random() % 600);  // up to three pages
    table.Expect(begin);
    ASSERT_OK(RunInline(table.Load(begin, sums)));
    for (size_t i = 0; i < sums.size(); ++i) ASSERT_EQ(sums[i], SumOf(begin + i, 1)) << begin + i;
  }
}

TEST_F(SumTableTest, ForgetsThePagesThatMoved) {
  WritePage(0, 10, 1);
  WritePage(1, 11, 1);
  SumTable table(*file_, {10, 11});
  std::vector<uint64_t> sums(2 * kSumsPerPage);
  ASSERT_OK(RunInline(table.Load(0, sums)));
  WritePage(1, 20, 2);
  WritePage(2, 21, 2);
  table.Replace({10, 20, 21});
  sums.resize(3 * kSumsPerPage);
  ASSERT_OK(RunInline(table.Load(0, sums)));
  EXPECT_EQ(sums[0], SumOf(0, 1));
  EXPECT_EQ(sums[kSumsPerPage], SumOf(kSumsPerPage, 2));
  EXPECT_EQ(sums[2 * kSumsPerPage], SumOf(2 * kSumsPerPage, 2));
  table.Replace({10});
  ASSERT_OK(RunInline(table.Load(0, sums)));
  EXPECT_EQ(sums[0], SumOf(0, 1));
  EXPECT_EQ(sums[kSumsPerPage], 0u) << "no page says anything of it";
}

}  // namespace
}  // namespace cowl
