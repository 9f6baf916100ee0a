#include "attach/mount.h"

#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "attach/fuse_arguments.h"
#include "attach/mount_table.h"
#include "attach/nbd_client.h"
#include "attach/run_program.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"
#include "support/temp_directory.h"

namespace cowl {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

TEST(MountTableTest, BlanksAreDecodedAndOptionalTagsSkipped) {
  const std::vector<MountEntry> table = ParseMountTable(
      "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
      "36 22 7:0 / /mnt/with\\040blank\\134 rw shared:1 master:2 - xfs /dev/loop0 rw\n");
  ASSERT_THAT(table, SizeIs(2));
  EXPECT_EQ(table[1].mount_point, "/mnt/with blank\\");
  EXPECT_EQ(table[1].device_number, "7:0");
  EXPECT_EQ(table[1].file_system, "xfs");
  EXPECT_EQ(table[1].source, "/dev/loop0");
}

TEST(MountTableTest, LinesOfAnotherFormAreLeftOut) {
  EXPECT_THAT(ParseMountTable("\n1 2\n36 22 7:0 / /mnt rw -\n36 22 7:0 / /mnt rw - ext4\n"),
              SizeIs(0));
}

TEST(MountTableTest, TheTopmostMountAtAPlaceIsFound) {
  const std::vector<MountEntry> table = ParseMountTable(
      "1 0 7:0 / /mnt rw - ext4 /dev/loop0 rw\n"
      "2 1 7:1 / /mnt rw - ext4 /dev/loop1 rw\n"
      "3 1 7:2 / /mnt/below rw - ext4 /dev/loop2 rw\n");
  ASSERT_NE(FindMount(table, "/mnt"), nullptr);
  EXPECT_EQ(FindMount(table, "/mnt")->source, "/dev/loop1");
  EXPECT_EQ(FindMount(table, "/mn"), nullptr);
}

TEST(MountTableTest, ThisProcessHasARoot) { EXPECT_NE(FindMount(MountTable(), "/"), nullptr); }

TEST(MountOptionsTest, ClonesOfXfsMountAndSnapshotsAreNotReplayed) {
  EXPECT_EQ(MountOptionsFor("ext4", false), "discard");
  EXPECT_EQ(MountOptionsFor("ext4", true), "noload");
  EXPECT_THAT(MountOptionsFor("xfs", false), HasSubstr("nouuid"));
  EXPECT_THAT(MountOptionsFor("xfs", true), HasSubstr("norecovery"));
  EXPECT_EQ(MountOptionsFor("squashfs", true), "");
}

TEST(MountDirectoryTest, OnlyAnEmptyDirectoryOfItsOwnWillDo) {
  const TempDirectory directory;
  const std::string path = directory.path();
  EXPECT_TRUE(CheckMountDirectory(path).ok());
  EXPECT_EQ(CheckMountDirectory("relative").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CheckMountDirectory(path + "/none").code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(CheckMountDirectory("/proc").ok());
  EXPECT_FALSE(CheckMountDirectory("/dev/null").ok());
  ASSERT_EQ(mkdir((path + "/inside").c_str(), 0700), 0);
  EXPECT_THAT(CheckMountDirectory(path), SaysThat("is not empty"));
}

TEST(UsersTest, AProcessThatStandsInADirectoryIsNamed) {
  // This very process stands somewhere on a mounted file system.
  const std::vector<std::string> users = UsersOfMount("/");
  EXPECT_THAT(users, Not(testing::IsEmpty()));
}

TEST(RunProgramTest, StatusAndOutputAreTakenDown) {
  const absl::StatusOr<ProgramResult> result =
      RunProgram({"sh", "-c", "echo out; echo err >&2; exit 7"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 7);
  EXPECT_EQ(result->output, "out\nerr\n");
  EXPECT_EQ(RunProgram({"no-such-program"}).status().code(), absl::StatusCode::kNotFound);
}

TEST(IdentityTest, OnlyTheIdOfADescriptionMustStay) {
  EXPECT_EQ(IdentityOf("device on base:latest, 1.0 GiB, id 1700000000000000000"),
            "1700000000000000000");
  EXPECT_EQ(IdentityOf("device, id 7, 2.0 GiB, id 8"), "8");
  EXPECT_EQ(IdentityOf("somebody's disk"), "");
  EXPECT_EQ(IdentityOf(""), "");
}

TEST(FuseArgumentsTest, OptionsComeBackFromTheCommandLine) {
  FuseOptions options;
  options.socket_path = "/a b/sock";
  options.export_name = "";
  options.identity = "x, y";
  options.file = "/run/cowl/f";
  options.source = "cowl-1";
  options.read_only = true;
  options.connections = 4;
  options.dead_server_timeout_s = 300;
  std::vector<std::string> words = EncodeFuseArguments(options);
  words.insert(words.begin(), "cowl");
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  const absl::StatusOr<FuseOptions> back =
      DecodeFuseArguments(static_cast<int>(argv.size()), argv.data());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(EncodeFuseArguments(*back), EncodeFuseArguments(options));
  EXPECT_FALSE(DecodeFuseArguments(static_cast<int>(argv.size()) - 1, argv.data()).ok());
  argv[8] = "0";
  EXPECT_FALSE(DecodeFuseArguments(static_cast<int>(argv.size()), argv.data()).ok());
}

}  // namespace
}  // namespace cowl
