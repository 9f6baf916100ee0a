// Import and export of qcow2, through qemu's own programs.

#include "image/qcow2.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <thread>

#include "fakes.h"
#include "image/child_process.h"
#include "image/importer.h"
#include "image/output_file.h"

namespace cowl {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

int Shell(const std::string& command) {
  const int status = system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class Qcow2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (Shell("command -v qemu-nbd qemu-img >/dev/null") == 0) return;
    ASSERT_EQ(getenv("CI"), nullptr) << "qemu-utils is not installed";
    GTEST_SKIP() << "qemu-utils is not installed";
  }

  absl::StatusOr<std::string> ImportQcow2(const std::string& path,
                                          const Progress& progress = nullptr) {
    ImportSourceOptions options;
    options.name = path;
    options.format = ImportFormat::kQcow2;
    COWL_ASSIGN_OR_RETURN(const auto importer, OpenImporter(options, progress));
    MemorySink sink(importer->size_bytes());
    COWL_RETURN_IF_ERROR(importer->Pour(sink, progress));
    written_bytes_ = sink.written_bytes;
    return sink.Content();
  }
  std::string RefusalOf(const std::string& path) {
    const auto content = ImportQcow2(path);
    return content.ok() ? "not refused" : Message(content.status());
  }
  // A raw disk of data and holes, in dir_/raw.
  std::string MakeRaw() {
    std::string disk = RandomBytes(3 * kMiB + 4096, 1) + std::string(12 * kMiB, '\0') +
                       RandomBytes(65536, 2) + std::string(8 * kMiB, 'c') +
                       std::string(4 * kMiB - 512, '\0');
    WriteFile(dir_ / "raw", disk);
    return disk;
  }

  TempDir dir_;
  uint64_t written_bytes_ = 0;
};

TEST_F(Qcow2Test, ImportsEveryKindOfCluster) {
  const std::string disk = MakeRaw();
  for (const char* options :
       {"-o compat=1.1", "-o compat=0.10", "-c", "-c -o compression_type=zstd",
        "-o cluster_size=4k", "-o cluster_size=2M", "-o extended_l2=on"}) {
    ASSERT_EQ(Shell("qemu-img convert -O qcow2 " + std::string(options) + " " + (dir_ / "raw") +
                    " " + (dir_ / "q")),
              0);
    const auto content = ImportQcow2(dir_ / "q");
    ASSERT_OK(content.status());
    EXPECT_TRUE(content->substr(0, disk.size()) == disk) << options;
    EXPECT_LT(written_bytes_, 20 * kMiB) << "holes were read with " << options;
  }
}

TEST_F(Qcow2Test, ImportsTheActiveStateOfAnImageWithSnapshots) {
  std::string disk = MakeRaw();
  ASSERT_EQ(
      Shell(
          "cd " + dir_.path() +
          " && qemu-img convert -O qcow2 raw q && qemu-img snapshot -c before q && "
          "qemu-io -c 'write -P 7 1M 64k' -c 'write -z 2M 64k' -c 'discard 0 64k' q >/dev/null && "
          "qemu-img snapshot -c between q && qemu-io -c 'write -P 9 10M 4k' q >/dev/null && "
          "qemu-img convert -O raw q after"),
      0);
  const auto content = ImportQcow2(dir_ / "q");
  ASSERT_OK(content.status());
  EXPECT_TRUE(*content == ReadFile(dir_ / "after"));
}

TEST_F(Qcow2Test, ReadsWhatOnlyRootMayReadWithoutRightsForTheParser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  MakeRaw();
  ASSERT_EQ(Shell("qemu-img convert -O qcow2 " + (dir_ / "raw") + " " + (dir_ / "q") +
                  " && chmod 600 " + (dir_ / "q")),
            0);
  std::string status_of_nobody;
  int children = 0;
  const auto look = [&](uint64_t, uint64_t) {
    if (children > 0) return true;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string status = ReadFile(entry.path() / "status");
      if (status.find("PPid:\t" + std::to_string(getpid()) + "\n") == std::string::npos) continue;
      if (status.find("Name:\tqemu-nbd") == std::string::npos) continue;
      ++children;
      EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1"));
      if (status.find("Uid:\t65534\t65534\t65534\t65534") != std::string::npos)
        status_of_nobody = status;
    }
    return true;
  };
  ASSERT_OK(ImportQcow2(dir_ / "q", look).status());
  EXPECT_EQ(children, 2);
  EXPECT_THAT(status_of_nobody,
              AllOf(HasSubstr("Gid:\t65534\t65534\t65534\t65534"), HasSubstr("Groups:\t \n"),
                    HasSubstr("CapEff:\t0000000000000000")));
}

TEST_F(Qcow2Test, RefusesImagesThatNameOtherFiles) {
  // AES and not LUKS, whose key qemu stretches for seconds, by more the busier the machine is.
  ASSERT_EQ(Shell("cd " + dir_.path() +
                  " && qemu-img create -q -f raw base 1M && "
                  "qemu-img create -q -f qcow2 -b base -F raw backed && "
                  "qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=on external 1M && "
                  "qemu-img create -q -f qcow2 --object secret,id=s,data=x -o "
                  "encrypt.format=aes,encrypt.key-secret=s "
                  "secret 1M"),
            0);
  EXPECT_THAT(RefusalOf(dir_ / "backed"),
              AllOf(HasSubstr("backing file"), HasSubstr("qemu-img convert")));
  EXPECT_THAT(RefusalOf(dir_ / "external"), HasSubstr("another file"));
  EXPECT_THAT(RefusalOf(dir_ / "secret"), HasSubstr("is encrypted"));
  std::string luks = ReadFile(dir_ / "secret");
  ASSERT_EQ(luks.substr(32, 4), std::string("\0\0\0\1", 4));
  luks[35] = 2;
  WriteFile(dir_ / "secret", luks);
  EXPECT_THAT(RefusalOf(dir_ / "secret"), HasSubstr("is encrypted"));
}

TEST_F(Qcow2Test, RefusesWhatIsNoQcow2) {
  WriteFile(dir_ / "text", std::string(4096, 'x'));
  EXPECT_THAT(RefusalOf(dir_ / "text"), HasSubstr("is not a qcow2 image"));
  WriteFile(dir_ / "short", "QFI\xfb");
  EXPECT_THAT(RefusalOf(dir_ / "short"), HasSubstr("is not a qcow2 image"));
  WriteFile(dir_ / "empty", "");
  EXPECT_THAT(RefusalOf(dir_ / "empty"), HasSubstr("is not a qcow2 image"));
}

TEST_F(Qcow2Test, PassesOnWhatQemuSaysOfADamagedImage) {
  MakeRaw();
  ASSERT_EQ(Shell("qemu-img convert -O qcow2 " + (dir_ / "raw") + " " + (dir_ / "q")), 0);
  const std::string good = ReadFile(dir_ / "q");
  std::string bad = good;
  bad.replace(40, 8, std::string("\0\0\0\x7f\xff\xff\xff\xff", 8));  // where the first table is
  WriteFile(dir_ / "q", bad);
  EXPECT_THAT(RefusalOf(dir_ / "q"), AllOf(HasSubstr(dir_ / "q"), HasSubstr("qemu-")));
  WriteFile(dir_ / "q", good.substr(0, 300000));  // its data is gone
  EXPECT_THAT(RefusalOf(dir_ / "q"), AllOf(HasSubstr(dir_ / "q"), HasSubstr("cut short")));
  WriteFile(dir_ / "q", good.substr(0, 100));
  EXPECT_THAT(RefusalOf(dir_ / "q"), AllOf(HasSubstr(dir_ / "q"), HasSubstr("qemu-")));
}

TEST_F(Qcow2Test, StopsWhenProgressSaysSo) {
  MakeRaw();
  ASSERT_EQ(Shell("qemu-img convert -O qcow2 " + (dir_ / "raw") + " " + (dir_ / "q")), 0);
  const auto content =
      ImportQcow2(dir_ / "q", [](uint64_t done, uint64_t) { return done < 2 * kMiB; });
  EXPECT_EQ(content.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(Qcow2Test, ExportsASoundAndSparseImageOfTheSameDisk) {
  const std::string disk = MakeRaw();
  for (const bool sparse : {false, true}) {
    StringSource source(disk, sparse);
    auto file = OutputFile::Create(dir_ / "q", true);
    ASSERT_OK(file.status());
    ASSERT_OK(WriteQcow2File(source, (*file)->fd(), dir_ / "q", nullptr));
    ASSERT_OK((*file)->Commit());
    EXPECT_EQ(Shell("qemu-img check -q " + (dir_ / "q")), 0);
    EXPECT_EQ(Shell("qemu-img compare -q -f raw -F qcow2 " + (dir_ / "raw") + " " + (dir_ / "q")),
              0);
    struct stat st;
    ASSERT_EQ(stat((dir_ / "q").c_str(), &st), 0);
    EXPECT_LT(static_cast<uint64_t>(st.st_blocks) * 512, 13 * kMiB);
  }
}

TEST_F(Qcow2Test, ExportsNamesThatQemuWouldReadAsSomethingElse) {
  StringSource source(RandomBytes(kMiB, 1));
  const std::string name = dir_ / "nbd:host,port=1 json:{}";
  auto file = OutputFile::Create(name, false);
  ASSERT_OK(file.status());
  ASSERT_OK(WriteQcow2File(source, (*file)->fd(), name, nullptr));
  ASSERT_OK((*file)->Commit());
  EXPECT_TRUE(std::filesystem::exists(name));
}

TEST_F(Qcow2Test, ExportsAndImportsAThinTebibyteAtOnce) {
  ASSERT_EQ(Shell("qemu-img create -q -f qcow2 " + (dir_ / "q") +
                  " 1T && qemu-io -c 'write -P 5 600G 4k' " + (dir_ / "q") + " >/dev/null"),
            0);
  ImportSourceOptions options;
  options.name = dir_ / "q";
  options.format = ImportFormat::kQcow2;
  auto importer = OpenImporter(options, nullptr);
  ASSERT_OK(importer.status());
  MemorySink sink((*importer)->size_bytes());
  ASSERT_OK((*importer)->Pour(sink, nullptr));
  EXPECT_EQ(sink.size_bytes(), kTiB);
  EXPECT_EQ(sink.StoredBytes(), 4096u);
  EXPECT_LE(sink.written_bytes, 2 * kMiB);
}

TEST(ChildProcess, NamesThePackageOfAMissingProgram) {
  const auto child =
      ChildProcess::Start({.arguments = {"no-such-program"}, .package = "some-package"});
  EXPECT_THAT(Message(child.status()),
              AllOf(HasSubstr("no-such-program"), HasSubstr("install the package some-package")));
}

TEST(ChildProcess, TellsWhatAFailedProgramSaid) {
  auto child = ChildProcess::Start(
      {.arguments = {"sh", "-c", "echo no way >&2; exit 3"}, .package = "dash"});
  ASSERT_OK(child.status());
  EXPECT_THAT(Message((*child)->Wait()), AllOf(HasSubstr("status 3"), HasSubstr("no way")));
}

TEST(ChildProcess, GivesTheChildNothingButItsDescriptors) {
  const int leak = open("/dev/null", O_RDONLY);  // not close-on-exec
  auto child = ChildProcess::Start(
      {.arguments = {"sh", "-c", "ls -x /proc/self/fd >&2; echo $LISTEN_FDS $LISTEN_PID $$ >&2"},
       .package = "dash",
       .listen_fd = leak});
  ASSERT_OK(child.status());
  ASSERT_OK((*child)->Wait());
  const std::string said = (*child)->Said();
  // ls itself opens the next one, 4.
  EXPECT_THAT(said, HasSubstr("0  1  2  3  4;1 "));
  const std::string pids = said.substr(said.find(';') + 3);
  EXPECT_EQ(pids.substr(0, pids.find(' ')), pids.substr(pids.find(' ') + 1));
  close(leak);
}

TEST(ChildProcess, DiesWithItsParent) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t parent = fork();
  if (parent == 0) {
    // The child holds our end of the pipe as its descriptor 4, for as long as it lives.
    auto child = ChildProcess::Start(
        {.arguments = {"sleep", "1000"}, .package = "coreutils", .extra_fd = ends[1]});
    if (!child.ok()) _exit(1);
    kill(getpid(), SIGKILL);
  }
  close(ends[1]);
  waitpid(parent, nullptr, 0);
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 0);  // end of file: nobody holds it any more
  close(ends[0]);
}

TEST(Qcow2Header, NeedsAllItsFields) {
  std::array<std::byte, kQcow2HeaderBytes> header{};
  StoreBig<uint32_t>(header.data(), 0x514649fb);
  StoreBig<uint32_t>(header.data() + 4, 3);
  EXPECT_TRUE(CheckQcow2Header(header, "x").ok());
  for (size_t length = 0; length < header.size(); ++length) {
    EXPECT_FALSE(CheckQcow2Header(std::span(header).first(length), "x").ok()) << length;
  }
  StoreBig<uint32_t>(header.data() + 4, 4);
  EXPECT_FALSE(CheckQcow2Header(header, "x").ok());
}

}  // namespace
}  // namespace cowl
