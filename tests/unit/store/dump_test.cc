// What dump says of a journal is what a recovery makes of it.
#include "store/dump.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "base/units.h"
#include "io/loop_thread.h"
#include "layer/section_writer.h"
#include "overlay/overlay.h"
#include "support/status_matchers.h"
#include "support/temp_directory.h"

namespace cowl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class DumpTest : public ::testing::Test {
 protected:
  // An overlay with block 5 written, as a kill leaves it.
  void SetUp() override {
    std::filesystem::create_directory(temp_ / "layers");
    auto thread = LoopThread::Start(IoBackend::kSync);
    ASSERT_OK(thread);
    thread_ = *std::move(thread);
    storage_ = loop().OpenStorage(temp_ / "");
    ASSERT_OK(RunOn(loop(), WriteOne(loop(), *storage_, id_)));
    auto file = storage_->Open(DataFileName(id_), OpenMode::kReadWrite);
    ASSERT_OK(file);
    file_ = *std::move(file);
    const auto superblock = RunOn(loop(), ReadSuperblock(*file_));
    ASSERT_OK(superblock);
    superblock_ = *superblock;
  }
  void TearDown() override {
    file_.reset();
    storage_.reset();
  }

  static Task<absl::Status> WriteOne(Loop& loop, Storage& storage, Uuid id) {
    auto overlay = co_await Overlay::Create(loop, storage, {id, {}, kGiB});
    if (!overlay.ok()) co_return overlay.status();
    const std::vector<std::byte> data(kBlockBytes, std::byte{1});
    COWL_CO_RETURN_IF_ERROR(co_await (*overlay)->Write(5, data));
    co_await (*overlay)->EndBackground();
    co_return absl::OkStatus();
  }
  static Task<absl::Status> WriteAt(File& file, uint64_t offset, std::vector<std::byte> bytes) {
    co_return co_await file.Write(offset, bytes);
  }
  static Task<absl::Status> ReadAt(File& file, uint64_t offset, std::vector<std::byte>* bytes) {
    co_return co_await file.Read(offset, *bytes);
  }
  IoLoop& loop() { return thread_->loop(); }
  std::string Dump() {
    std::ostringstream out;
    EXPECT_OK(DumpFile(temp_ / DataFileName(id_), out));
    return out.str();
  }

  TempDirectory temp_;
  const Uuid id_ = Uuid::Random();
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<Storage> storage_;
  std::unique_ptr<File> file_;
  Superblock superblock_;
};

TEST_F(DumpTest, ARecordOfAnEarlierIncarnationIsNoneOfTheJournal) {
  const uint64_t begin = BlockOffsetBytes(superblock_.journal_block);
  std::vector<std::byte> chunk(kBlockBytes);
  ASSERT_OK(RunOn(loop(), ReadAt(*file_, begin, &chunk)));
  size_t length = 0;
  const auto first = DecodeRecord(chunk, superblock_.secret, &length);
  ASSERT_TRUE(first.has_value());
  JournalRecord second;
  second.type = JournalRecord::Type::kZero;
  second.start = 77;
  second.blocks = 1;
  second.order = first->order + 1;
  second.previous_check = first->check;
  for (const uint32_t incarnation : {superblock_.incarnation, superblock_.incarnation - 1}) {
    second.incarnation = incarnation;
    std::vector<std::byte> bytes;
    EncodeRecord(second, superblock_.secret, bytes);
    ASSERT_OK(RunOn(loop(), WriteAt(*file_, begin + length, bytes)));
    const std::string text = Dump();
    EXPECT_THAT(text, HasSubstr("write 5 +1"));
    if (incarnation == superblock_.incarnation) {
      EXPECT_THAT(text, HasSubstr("zero 77 +1"));
    } else {
      EXPECT_THAT(text, Not(HasSubstr("zero 77 +1")));
    }
  }
}

TEST_F(DumpTest, AChunkLongerThanAnyIsNotRead) {
  superblock_.journal_blocks = uint64_t{1} << 30;
  ASSERT_OK(RunOn(loop(), WriteSuperblock(*file_, superblock_)));
  EXPECT_THAT(Dump(), HasSubstr("no chunk is that long"));
}

}  // namespace
}  // namespace cowl
