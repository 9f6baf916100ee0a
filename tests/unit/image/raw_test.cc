// Import and export of raw disks.

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <thread>

#include "fakes.h"
#include "image/copy.h"
#include "image/diff_sink.h"
#include "image/importer.h"
#include "image/output_file.h"
#include "image/raw_output.h"

namespace cowl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

absl::StatusOr<std::unique_ptr<Importer>> OpenRawFile(const std::string& path,
                                                      std::optional<uint64_t> size = std::nullopt,
                                                      ImportFormat format = ImportFormat::kAuto) {
  ImportSourceOptions options;
  options.name = path;
  options.size_bytes = size;
  options.format = format;
  return OpenImporter(options, nullptr);
}

std::string RefusalOf(const std::string& path, std::optional<uint64_t> size = std::nullopt,
                      ImportFormat format = ImportFormat::kAuto) {
  const auto importer = OpenRawFile(path, size, format);
  return importer.ok() ? "not refused" : Message(importer.status());
}

TEST(RawImport, GivesTheBytesOfTheFile) {
  TempDir dir;
  const std::string content = RandomBytes(3 * kMiB + 4096 * 7 + 512, 1);
  WriteFile(dir / "disk", content);
  auto importer = OpenRawFile(dir / "disk");
  ASSERT_OK(importer.status());
  EXPECT_EQ((*importer)->size_bytes(), content.size());
  MemorySink sink((*importer)->size_bytes());
  ASSERT_OK((*importer)->Pour(sink, nullptr));
  EXPECT_EQ(sink.Content(), content);
}

TEST(RawImport, AcceptsAnyMultipleOfASector) {
  TempDir dir;
  for (const uint64_t size : {512ul, 1024ul, 4096ul, 4608ul, 1048576ul - 512, 1048576ul + 512}) {
    const std::string content = RandomBytes(size, static_cast<uint32_t>(size));
    WriteFile(dir / "disk", content);
    auto importer = OpenRawFile(dir / "disk");
    ASSERT_OK(importer.status());
    MemorySink sink((*importer)->size_bytes());
    ASSERT_OK((*importer)->Pour(sink, nullptr));
    EXPECT_EQ(sink.Content(), content) << size;
  }
}

TEST(RawImport, ReadsOnlyTheDataOfASparseFile) {
  TempDir dir;
  const int fd = open((dir / "disk").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(kTiB)), 0);
  const std::string piece = RandomBytes(10000, 2);
  for (const uint64_t at : {0ul, 5 * kGiB + 4097, kTiB - 10000}) {
    ASSERT_EQ(pwrite(fd, piece.data(), piece.size(), static_cast<off_t>(at)), 10000);
  }
  close(fd);
  auto importer = OpenRawFile(dir / "disk");
  ASSERT_OK(importer.status());
  MemorySink sink((*importer)->size_bytes());
  ASSERT_OK((*importer)->Pour(sink, nullptr));
  EXPECT_LE(sink.written_bytes, 3 * 16384u);
  EXPECT_EQ(sink.blocks.at(0), piece.substr(0, 4096));
  EXPECT_EQ(sink.blocks.at(BlocksFloor(5 * kGiB) + 1), '\0' + piece.substr(0, 4095));
}

TEST(RawImport, NamesTheSizeThatWouldDoForAnOddOne) {
  TempDir dir;
  WriteFile(dir / "disk", std::string(1000, 'x'));
  EXPECT_THAT(RefusalOf(dir / "disk"), AllOf(HasSubstr("1000 bytes"), HasSubstr("--size 1024")));
  auto importer = OpenRawFile(dir / "disk", 8192);
  ASSERT_OK(importer.status());
  EXPECT_EQ((*importer)->size_bytes(), 8192u);
  MemorySink sink(8192);
  ASSERT_OK((*importer)->Pour(sink, nullptr));
  EXPECT_EQ(sink.Content(), std::string(1000, 'x') + std::string(7192, '\0'));
}

TEST(RawImport, RefusesASizeBelowTheSource) {
  TempDir dir;
  WriteFile(dir / "disk", std::string(8192, 'x'));
  EXPECT_THAT(RefusalOf(dir / "disk", 4096), AllOf(HasSubstr("4096"), HasSubstr("8192")));
}

TEST(RawImport, RefusesWhatIsNoDisk) {
  TempDir dir;
  WriteFile(dir / "empty", "");
  EXPECT_THAT(RefusalOf(dir / "empty"), HasSubstr("is empty"));
  EXPECT_THAT(RefusalOf("/dev/null"), HasSubstr("neither a regular file nor a block device"));
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(RefusalOf(dir / "pipe"), HasSubstr("neither a regular file nor a block device"));
  EXPECT_THAT(RefusalOf(dir / "absent"), HasSubstr("No such file"));
  EXPECT_THAT(RefusalOf(dir.path(), std::nullopt, ImportFormat::kRaw), HasSubstr("is a directory"));
}

TEST(RawImport, RefusesArchivesUnlessToldRaw) {
  TempDir dir;
  std::string tar(2048, '\0');
  tar.replace(257, 5, "ustar");
  WriteFile(dir / "x.tar", tar);
  EXPECT_THAT(RefusalOf(dir / "x.tar"), HasSubstr("a tar archive"));
  WriteFile(dir / "x.gz", "\x1f\x8b" + std::string(2046, 'a'));
  EXPECT_THAT(RefusalOf(dir / "x.gz"), HasSubstr("a gzip archive"));
  ASSERT_OK(OpenRawFile(dir / "x.tar", std::nullopt, ImportFormat::kRaw).status());
}

TEST(RawImport, SaysSoWhenTheFileIsCutWhileItIsRead) {
  TempDir dir;
  for (const bool sparse : {false, true}) {
    WriteFile(dir / "disk", sparse ? "" : RandomBytes(4 * kMiB, 3));
    ASSERT_EQ(truncate((dir / "disk").c_str(), 4 * kMiB), 0);
    auto importer = OpenRawFile(dir / "disk");
    ASSERT_OK(importer.status());
    ASSERT_EQ(truncate((dir / "disk").c_str(), 1 * kMiB), 0);
    MemorySink sink((*importer)->size_bytes());
    const absl::Status status = (*importer)->Pour(sink, nullptr);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(Message(status), AllOf(HasSubstr("shorter than it said"), HasSubstr("4194304"),
                                       HasSubstr("1048576")));
  }
}

TEST(RawImport, StopsWhenProgressSaysSo) {
  TempDir dir;
  WriteFile(dir / "disk", RandomBytes(4 * kMiB, 4));
  auto importer = OpenRawFile(dir / "disk");
  ASSERT_OK(importer.status());
  MemorySink sink((*importer)->size_bytes());
  const absl::Status status =
      (*importer)->Pour(sink, [](uint64_t done, uint64_t) { return done < 2 * kMiB; });
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(sink.written_bytes, 2 * kMiB);
}

TEST(DiffSink, StoresOnlyWhatDiffers) {
  std::string parent = RandomBytes(64 * 4096, 5);
  parent.replace(10 * 4096, 4096 * 4, std::string(4096 * 4, '\0'));
  std::string now = parent;
  now[3 * 4096 + 17] ^= 1;
  now.replace(10 * 4096, 5, "hello");
  now.replace(20 * 4096, 4096 * 3, std::string(4096 * 3, '\0'));  // zeros over data
  for (const bool sparse : {false, true}) {
    StringSource below(parent);
    MemorySink inner(now.size());
    DiffSink diff(inner, below);
    StringSource source(now, sparse);
    ASSERT_OK(CopyBlocks(source, diff, nullptr));
    ASSERT_OK(diff.Finish().status());
    EXPECT_EQ(inner.Content(parent), now);
    EXPECT_EQ(inner.blocks.size(), 5u);
    EXPECT_EQ(inner.StoredBytes(), 2 * 4096u);
  }
}

TEST(DiffSink, StoresNothingForTheSame) {
  const std::string disk = RandomBytes(2 * kMiB, 6) + std::string(kMiB, '\0') + RandomBytes(512, 7);
  StringSource below(disk);
  MemorySink inner(disk.size());
  DiffSink diff(inner, below);
  StringSource source(disk);
  ASSERT_OK(CopyBlocks(source, diff, nullptr));
  ASSERT_OK(diff.Finish().status());
  EXPECT_TRUE(inner.blocks.empty());
}

TEST(DiffSink, KeepsTheLastOfTwoWrites) {
  const std::string parent = RandomBytes(16 * 4096, 8);
  const std::string other = RandomBytes(16 * 4096, 9);
  StringSource below(parent);
  MemorySink inner(parent.size());
  DiffSink diff(inner, below);
  ASSERT_OK(diff.Write(0, AsBytes(other)));
  ASSERT_OK(diff.Write(4, AsBytes(parent).subspan(4 * 4096, 4 * 4096)));
  ASSERT_OK(diff.Finish().status());
  std::string now = other;
  now.replace(4 * 4096, 4 * 4096, parent, 4 * 4096, 4 * 4096);
  EXPECT_EQ(inner.Content(parent), now);
}

TEST(DiffSink, LetsADiskGrowBeyondItsParent) {
  const std::string parent = RandomBytes(3 * 4096 + 512, 10);
  const std::string now = RandomBytes(8 * 4096, 11);
  StringSource below(parent);
  MemorySink inner(now.size());
  DiffSink diff(inner, below);
  StringSource source(now);
  ASSERT_OK(CopyBlocks(source, diff, nullptr));
  ASSERT_OK(diff.Finish().status());
  EXPECT_EQ(inner.Content(parent), now);
}

TEST(RawExport, MakesASparseFileOfTheSameBytes) {
  TempDir dir;
  std::string disk =
      RandomBytes(kMiB + 512, 12) + std::string(64 * kMiB, '\0') + RandomBytes(1536, 13);
  for (const bool sparse : {false, true}) {
    StringSource source(disk, sparse);
    auto file = OutputFile::Create(dir / "out", true);
    ASSERT_OK(file.status());
    ASSERT_OK(WriteRawFile(source, (*file)->fd(), dir / "out", nullptr));
    ASSERT_OK((*file)->Commit());
    EXPECT_EQ(ReadFile(dir / "out"), disk);
    struct stat st;
    ASSERT_EQ(stat((dir / "out").c_str(), &st), 0);
    EXPECT_LE(st.st_blocks * 512u, 2 * kMiB);
  }
}

TEST(RawExport, StreamsEveryByte) {
  const std::string disk = RandomBytes(kMiB + 512, 14) + std::string(3 * kMiB, '\0') + "end";
  StringSource source(disk);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  std::string got;
  std::thread reader([&] {
    char buffer[65536];
    for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;)
      got.append(buffer, static_cast<size_t>(n));
  });
  EXPECT_TRUE(WriteRawStream(source, ends[1], "-", nullptr).ok());
  close(ends[1]);
  reader.join();
  close(ends[0]);
  EXPECT_EQ(got, disk);
}

TEST(RawExport, SurvivesAReaderThatLeaves) {
  StringSource source(RandomBytes(4 * kMiB, 15), false);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  close(ends[0]);
  const absl::Status status = WriteRawStream(source, ends[1], "standard output", nullptr);
  close(ends[1]);
  EXPECT_EQ(StatusErrno(status), EPIPE);
  EXPECT_THAT(Message(status), HasSubstr("standard output"));
}

TEST(OutputFile, RefusesAFileThatIsThere) {
  TempDir dir;
  WriteFile(dir / "out", "mine");
  const auto file = OutputFile::Create(dir / "out", false);
  EXPECT_EQ(file.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(Message(file.status()), HasSubstr("--force"));
  EXPECT_EQ(ReadFile(dir / "out"), "mine");
}

TEST(OutputFile, RefusesAFileThatAppearsMeanwhile) {
  TempDir dir;
  auto file = OutputFile::Create(dir / "out", false);
  ASSERT_OK(file.status());
  WriteFile(dir / "out", "theirs");
  EXPECT_EQ((*file)->Commit().code(), absl::StatusCode::kAlreadyExists);
  file->reset();
  EXPECT_EQ(ReadFile(dir / "out"), "theirs");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
}

TEST(OutputFile, LeavesNothingWhenItIsNotCommitted) {
  TempDir dir;
  {
    auto file = OutputFile::Create(dir / "out", false);
    ASSERT_OK(file.status());
    ASSERT_EQ(write((*file)->fd(), "half", 4), 4);
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
}

TEST(OutputFile, HasNoNameUntilItIsComplete) {
  TempDir dir;
  const UniqueFd probe(open(dir.path().c_str(), O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
  if (!probe.valid()) GTEST_SKIP() << "no files without a name here";
  WriteFile(dir / "old", "old");
  for (const bool force : {false, true}) {
    const std::string path = dir / (force ? "old" : "new");
    auto file = OutputFile::Create(path, force);
    ASSERT_OK(file.status());
    ASSERT_EQ(write((*file)->fd(), "all", 3), 3);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), force ? 2 : 1);
    ASSERT_OK((*file)->Commit());
    EXPECT_EQ(ReadFile(path), "all");
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 2);
}

TEST(OutputFile, ReplacesWhatALinkPointsToWhenForced) {
  TempDir dir;
  WriteFile(dir / "real", "old");
  ASSERT_EQ(symlink("real", (dir / "link").c_str()), 0);
  auto file = OutputFile::Create(dir / "link", true);
  ASSERT_OK(file.status());
  ASSERT_EQ(write((*file)->fd(), "new", 3), 3);
  ASSERT_OK((*file)->Commit());
  EXPECT_EQ(ReadFile(dir / "real"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
}

TEST(OutputFile, NeverReplacesADevice) {
  EXPECT_EQ(OutputFile::Create("/dev/null", true).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(OutputFile, TakesTheLongestName) {
  TempDir dir;
  const std::string name(255, 'n');
  auto file = OutputFile::Create(dir / name, false);
  ASSERT_OK(file.status());
  ASSERT_OK((*file)->Commit());
  EXPECT_TRUE(std::filesystem::exists(dir / name));
}

}  // namespace
}  // namespace cowl
