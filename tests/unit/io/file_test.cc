// One suite for every storage: what file.h promises, over memory and over real files on each loop.
#include "io/file.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "base/bytes.h"
#include "base/units.h"
#include "support/io_rig.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using testing::AllOf;

std::vector<std::byte> Pattern(size_t bytes, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> pattern(bytes);
  for (std::byte& byte : pattern) byte = static_cast<std::byte>(random());
  return pattern;
}

class FileTest : public IoRigTest {
 protected:
  ~FileTest() override { file_.reset(); }
  File& file() {
    if (file_ == nullptr) {
      auto opened = storage().Open("file", OpenMode::kCreate);
      EXPECT_OK(opened);
      file_ = *std::move(opened);
    }
    return *file_;
  }
  static Task<absl::Status> Await(File::Awaiter* awaiter) { co_return co_await *awaiter; }
  absl::Status Do(File::Awaiter awaiter) { return Run(Await(&awaiter)); }

  std::unique_ptr<File> file_;
};

TEST_P(FileTest, ReadsWhatWasWritten) {
  const auto written = Pattern(3 * kBlockBytes + 17, 1);
  EXPECT_OK(Do(file().Write(1001, written)));
  std::vector<std::byte> got(written.size());
  EXPECT_OK(Do(file().Read(1001, got)));
  EXPECT_EQ(got, written);
  EXPECT_EQ(*file().SizeBytes(), 1001 + written.size());
  EXPECT_OK(Do(file().Sync()));
}

INSTANTIATE_TEST_SUITE_P(AllStorages, FileTest, testing::ValuesIn(AllRigs()), RigName);

}  // namespace
}  // namespace cowl
