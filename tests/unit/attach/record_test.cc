#include "attach/record.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "attach/text_file.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"
#include "support/temp_directory.h"

namespace cowl {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

Record Sample() {
  Record record;
  record.complete = true;
  record.boot_id = "boot";
  Attachment& a = record.attachment;
  a.name = "web1";
  a.export_name = "web1";
  a.socket_path = "/store with blank/nbd.sock";
  a.kind = AttachKind::kLoop;
  a.device = "/dev/loop7";
  a.mount = "/mnt/\"quoted\"";
  a.file_system = "ext4";
  a.read_only = true;
  a.size_bytes = 1ULL << 40;
  a.backend_id = "cowl:/store:web1:0123456789abcdef";
  a.identity = "device 1";
  a.fuse_file = "/run/cowl/web1.0123456789abcdef";
  a.fuse_pid = 4711;
  a.fuse_pid_started = 123456789012;
  a.nbd_index = 3;
  a.connections = 4;
  a.dead_server_timeout_s = 300;
  return record;
}

TEST(RecordTest, EveryFieldComesBackFromTheDocument) {
  const std::string document = EncodeRecord(Sample());
  const absl::StatusOr<Record> back = DecodeRecord(document);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeRecord(*back), document);
  EXPECT_EQ(back->attachment.mount, "/mnt/\"quoted\"");
  EXPECT_EQ(back->attachment.fuse_pid_started, 123456789012u);
  EXPECT_EQ(back->attachment.kind, AttachKind::kLoop);
  EXPECT_TRUE(back->complete);
}

TEST(RecordTest, EveryTruncationIsRefused) {
  const std::string document = EncodeRecord(Sample());
  for (size_t length = 0; length + 2 < document.size(); ++length) {
    EXPECT_EQ(DecodeRecord(document.substr(0, length)).status().code(), absl::StatusCode::kDataLoss)
        << length;
  }
}

TEST(RecordTest, AFieldOfTheWrongTypeIsNamed) {
  std::string document = EncodeRecord(Sample());
  document.replace(document.find("4711"), 4, "\"x\"");
  EXPECT_THAT(DecodeRecord(document), SaysThat("fuse_pid"));
}

TEST(RecordTest, ADocumentOfALaterSchemaIsRefused) {
  std::string document = EncodeRecord(Sample());
  document.replace(document.find("\"schema\": 1"), 11, "\"schema\": 2");
  EXPECT_THAT(DecodeRecord(document), SaysThat("schema 2"));
}

class RecordFolderTest : public testing::Test {
 protected:
  TempDirectory directory_;
  const std::string store_ = directory_.path();
};

TEST_F(RecordFolderTest, RecordsAreListedReadReplacedAndRemoved) {
  EXPECT_THAT(*RecordNames(store_), IsEmpty());
  EXPECT_EQ(ReadRecord(store_, "web1").status().code(), absl::StatusCode::kNotFound);
  Record record = Sample();
  ASSERT_TRUE(WriteRecord(store_, record).ok());
  record.attachment.size_bytes = 4096;
  ASSERT_TRUE(WriteRecord(store_, record).ok());
  record.attachment.name = "base:v1";
  ASSERT_TRUE(WriteRecord(store_, record).ok());
  EXPECT_THAT(*RecordNames(store_), ElementsAre("base:v1", "web1"));
  EXPECT_EQ(ReadRecord(store_, "web1")->attachment.size_bytes, 4096u);
  ASSERT_TRUE(RemoveRecord(store_, "web1").ok());
  ASSERT_TRUE(RemoveRecord(store_, "web1").ok());
  EXPECT_THAT(*RecordNames(store_), ElementsAre("base:v1"));
}

TEST_F(RecordFolderTest, ARecordUnderAnotherNameIsRefused) {
  ASSERT_TRUE(WriteRecord(store_, Sample()).ok());
  ASSERT_EQ(rename((store_ + "/attach/web1.json").c_str(), (store_ + "/attach/web2.json").c_str()),
            0);
  EXPECT_EQ(ReadRecord(store_, "web2").status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(RecordFolderTest, NamesThatLeadElsewhereAreRefused) {
  for (const char* name : {"", ".", "..", "../web1", "a/b", "a b", "a\nb"}) {
    EXPECT_EQ(ReadRecord(store_, name).status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_FALSE(RecordLock::Take(store_, name, 0).ok()) << name;
  }
  EXPECT_THAT(*RecordNames(store_), IsEmpty());
}

TEST_F(RecordFolderTest, ALockExcludesOthersOfItsNameAndNobodyElse) {
  absl::StatusOr<RecordLock> first = RecordLock::Take(store_, "web1", 0);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(RecordLock::Take(store_, "web1", 50).status().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(RecordLock::Take(store_, "web2", 0).ok());
  { const RecordLock released = *std::move(first); }
  EXPECT_TRUE(RecordLock::Take(store_, "web1", 0).ok());
}

TEST_F(RecordFolderTest, AFileIsReplacedWholeOrNotAtAll) {
  const std::string path = store_ + "/file";
  ASSERT_TRUE(ReplaceTextFile(path, "one\ntwo\n").ok());
  EXPECT_EQ(ReadLine(path), "one");
  EXPECT_EQ(ReplaceTextFile(store_ + "/none/file", "x").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*ReadTextFile(path), "one\ntwo\n");
  EXPECT_EQ(ReadTextFile(store_ + "/none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace cowl
