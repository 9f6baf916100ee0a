// Import and export whole: real layer files in a real folder, as the command line uses them.

#include "base/uuid.h"
#include "fakes.h"
#include "image/export.h"
#include "image/import.h"

namespace cowl {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A folder of layers, and the views of what was imported into it.
class StagingTest : public ::testing::Test {
 protected:
  StagingTest() { std::filesystem::create_directory(dir_ / "layers"); }

  absl::StatusOr<ImportResult> ImportFile(const std::string& source, const FrozenView& parent = {},
                                          const Progress& progress = nullptr,
                                          std::optional<uint64_t> size = std::nullopt) {
    ImportOptions options;
    options.source.name = source;
    options.source.size_bytes = size;
    options.staged_path = dir_ / "layers/" + std::to_string(next_++);
    options.parent = parent;
    options.created_by = "test";
    options.progress = progress;
    auto result = Import(options);
    if (result.ok()) {  // as a store takes it in
      const std::string kept = dir_ / "layers/" + result->layer_id + ".cowl";
      std::filesystem::rename(result->staged_path, kept);
      result->staged_path = kept;
    }
    return result;
  }
  static FrozenView ViewOf(const ImportResult& top, FrozenView below = {}) {
    FrozenView view;
    view.size_bytes = top.size_bytes;
    LayerInfo layer;
    layer.id = top.layer_id;
    layer.path = top.staged_path;
    view.layers.push_back(layer);
    view.layers.insert(view.layers.end(), below.layers.begin(), below.layers.end());
    return view;
  }
  absl::Status ExportTo(const FrozenView& view, const std::string& path, bool force = false) {
    ExportOptions options;
    options.view = view;
    options.path = path;
    options.force = force;
    return Export(options);
  }
  std::string Exported(const FrozenView& view) {
    const absl::Status status = ExportTo(view, dir_ / "out", true);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return ReadFile(dir_ / "out");
  }
  bool LayersAreEmpty() const { return std::filesystem::is_empty(dir_ / "layers"); }

  TempDir dir_;
  int next_ = 0;
};

TEST_F(StagingTest, GivesBackWhatWasImported) {
  const std::string disk =
      RandomBytes(5 * kMiB, 1) + std::string(20 * kMiB, '\0') + RandomBytes(kMiB + 512, 2);
  WriteFile(dir_ / "disk", disk);
  const auto layer = ImportFile(dir_ / "disk");
  ASSERT_OK(layer.status());
  EXPECT_EQ(layer->size_bytes, disk.size());
  EXPECT_EQ(layer->stored_bytes, 6 * kMiB + 4096);
  EXPECT_TRUE(Uuid::Parse(layer->layer_id).has_value());
  EXPECT_TRUE(Exported(ViewOf(*layer)) == disk);
}

TEST_F(StagingTest, StoresNothingForTheSameAndLittleForLittle) {
  std::string disk = RandomBytes(4 * kMiB, 1) + std::string(4 * kMiB, '\0');
  WriteFile(dir_ / "disk", disk);
  const auto base = ImportFile(dir_ / "disk");
  ASSERT_OK(base.status());
  const auto same = ImportFile(dir_ / "disk", ViewOf(*base));
  ASSERT_OK(same.status());
  EXPECT_EQ(same->stored_bytes, 0u);
  EXPECT_EQ(same->parent_id, base->layer_id);
  disk[5000] ^= 1;
  disk.replace(kMiB, kMiB, std::string(kMiB, '\0'));
  disk.replace(6 * kMiB, 3, "new");
  WriteFile(dir_ / "disk", disk);
  const auto next = ImportFile(dir_ / "disk", ViewOf(*same, ViewOf(*base)));
  ASSERT_OK(next.status());
  EXPECT_EQ(next->stored_bytes, 8192u);
  EXPECT_TRUE(Exported(ViewOf(*next, ViewOf(*same, ViewOf(*base)))) == disk);
}

TEST_F(StagingTest, RefusesADiskBelowItsParent) {
  WriteFile(dir_ / "large", RandomBytes(2 * kMiB, 1));
  WriteFile(dir_ / "small", RandomBytes(kMiB, 1));
  const auto base = ImportFile(dir_ / "large");
  ASSERT_OK(base.status());
  const auto refused = ImportFile(dir_ / "small", ViewOf(*base));
  EXPECT_THAT(Message(refused.status()), AllOf(HasSubstr("1048576"), HasSubstr("--size 2097152")));
  const auto padded = ImportFile(dir_ / "small", ViewOf(*base), nullptr, 2 * kMiB);
  ASSERT_OK(padded.status());
  EXPECT_EQ(padded->stored_bytes, 0u);
  EXPECT_TRUE(Exported(ViewOf(*padded, ViewOf(*base))) ==
              ReadFile(dir_ / "small") + std::string(kMiB, '\0'));
}

TEST_F(StagingTest, ImportsATebibyteOfHolesAtOnce) {
  const int fd = open((dir_ / "disk").c_str(), O_RDWR | O_CREAT, 0600);
  ASSERT_EQ(ftruncate(fd, static_cast<off_t>(kTiB)), 0);
  ASSERT_EQ(pwrite(fd, "x", 1, static_cast<off_t>(kTiB / 2)), 1);
  close(fd);
  const auto layer = ImportFile(dir_ / "disk");
  ASSERT_OK(layer.status());
  EXPECT_EQ(layer->stored_bytes, 4096u);
  struct stat st;
  ASSERT_EQ(stat(layer->staged_path.c_str(), &st), 0);
  EXPECT_LT(st.st_blocks * 512, 1 << 20);
}

TEST_F(StagingTest, LeavesNothingWhenItFails) {
  WriteFile(dir_ / "disk", RandomBytes(4 * kMiB, 1));
  const auto cut = ImportFile(dir_ / "disk", {}, [&](uint64_t, uint64_t) {
    return truncate((dir_ / "disk").c_str(), kMiB) == 0;
  });
  EXPECT_EQ(cut.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_TRUE(LayersAreEmpty());
  WriteFile(dir_ / "disk", RandomBytes(4 * kMiB, 1));
  const auto stopped =
      ImportFile(dir_ / "disk", {}, [](uint64_t done, uint64_t) { return done < kMiB; });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(LayersAreEmpty());
}

TEST_F(StagingTest, NeverTouchesAStagedFileOfAnother) {
  WriteFile(dir_ / "disk", RandomBytes(kMiB, 1));
  WriteFile(dir_ / "layers/0", "theirs");
  EXPECT_EQ(ImportFile(dir_ / "disk").status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadFile(dir_ / "layers/0"), "theirs");
}

TEST_F(StagingTest, ImportsATreeAndATreeOnIt) {
  std::filesystem::create_directory(dir_ / "tree");
  WriteFile(dir_ / "tree/file", RandomBytes(kMiB, 1));
  const auto base = ImportFile(dir_ / "tree");
  ASSERT_OK(base.status());
  const auto same = ImportFile(dir_ / "tree", ViewOf(*base));
  ASSERT_OK(same.status());
  EXPECT_EQ(same->stored_bytes, 0u);
  WriteFile(dir_ / "tree/another", "small");
  const auto next = ImportFile(dir_ / "tree", ViewOf(*base));
  ASSERT_OK(next.status());
  EXPECT_GT(next->stored_bytes, 0u);
  EXPECT_LT(next->stored_bytes, kMiB + 128 * kKiB);
  ASSERT_OK(ExportTo(ViewOf(*next, ViewOf(*base)), dir_ / "out"));
  EXPECT_EQ(system(("e2fsck -fn " + (dir_ / "out") + " >/dev/null 2>&1").c_str()), 0);
}

TEST_F(StagingTest, ExportLeavesNothingWhenALayerIsDamaged) {
  WriteFile(dir_ / "disk", RandomBytes(4 * kMiB, 1));
  const auto layer = ImportFile(dir_ / "disk");
  ASSERT_OK(layer.status());
  std::string file = ReadFile(layer->staged_path);
  const size_t at = file.find(ReadFile(dir_ / "disk").substr(2 * kMiB, 64));
  ASSERT_NE(at, std::string::npos);
  file[at] ^= 1;
  WriteFile(layer->staged_path, file);
  EXPECT_EQ(ExportTo(ViewOf(*layer), dir_ / "out").code(), absl::StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(dir_ / "out"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir_.path()), {}), 2);
}

TEST_F(StagingTest, ExportRefusesAFileThatIsThere) {
  FrozenView zeros;
  zeros.size_bytes = kMiB;
  WriteFile(dir_ / "out", "mine");
  EXPECT_EQ(ExportTo(zeros, dir_ / "out").code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReadFile(dir_ / "out"), "mine");
  ASSERT_OK(ExportTo(zeros, dir_ / "out", true));
  EXPECT_EQ(ReadFile(dir_ / "out"), std::string(kMiB, '\0'));
}

}  // namespace
}  // namespace cowl
