// Layer files: written, read back, rewritten, punched, damaged, and cut short by crashes while
// their maps are edited.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/checksum.h"
#include "layer/data_file.h"
#include "layer/layer.h"
#include "layer/layer_writer.h"
#include "layer/section_writer.h"
#include "support/crash_simulator.h"
#include "support/faulty_storage.h"
#include "support/io_rig.h"
#include "support/recording_storage.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kBlocks = 1500;  // more than two checksum pages

Bytes Content(std::mt19937_64& random, uint64_t blocks) {
  Bytes bytes(blocks * kBlockBytes);
  for (uint64_t i = 0; i < blocks; ++i) {
    if (random() % 5 == 0) continue;  // a zero block
    const auto value = static_cast<std::byte>(1 + random() % 255);
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(i * kBlockBytes + random() % 100), 3000,
                value);
  }
  return bytes;
}

Task<absl::Status> WriteAt(LayerWriter* writer, uint64_t block, const Bytes* bytes) {
  co_return co_await writer->Write(block, *bytes);
}

// The layer's own view: zeros where it says zero or nothing.
Task<absl::StatusOr<Bytes>> ReadLayer(Storage* storage, std::string name) {
  absl::StatusOr<std::shared_ptr<const LayerMap>> layer = co_await LoadLayerMap(*storage, name);
  if (!layer.ok()) co_return layer.status();
  absl::StatusOr<std::shared_ptr<DataFile>> file = co_await DataFile::Open(*storage, name);
  if (!file.ok()) co_return file.status();
  Bytes bytes(kBlocks * kBlockBytes);
  for (const Extent& extent : (*layer)->map.extents.extents()) {
    if (!extent.is_data()) continue;
    const std::span<std::byte> into = std::span(bytes).subspan(BlockOffsetBytes(extent.start()),
                                                               BlockOffsetBytes(extent.length()));
    COWL_CO_RETURN_IF_ERROR(co_await (*file)->Read(extent.physical(), into));
  }
  co_return bytes;
}

class LayerFileTest : public IoRigTest {
 protected:
  void SetUp() override {
    if (!rig().directory().empty())
      std::filesystem::create_directory(rig().directory() + "/layers");
  }
  // Random writes and zeros in random order, some blocks twice.
  absl::StatusOr<LayerSummary> Make(const std::string& name, const Uuid& parent, uint64_t seed) {
    std::mt19937_64 random(seed);
    model_.assign(kBlocks * kBlockBytes, std::byte{0});
    LayerWriterOptions options;
    options.size_bytes = kBlocks * kBlockBytes;
    options.parent = parent;
    options.created_by = "layer test";
    auto writer = LayerWriter::Create(storage(), name, options);
    if (!writer.ok()) return writer.status();
    for (int i = 0; i < 60; ++i) {
      const uint64_t block = random() % kBlocks;
      const uint64_t blocks = 1 + random() % std::min<uint64_t>(60, kBlocks - block);
      absl::Status status;
      if (random() % 6 == 0) {
        status = Run((*writer)->Zero(block, block + blocks));
        std::fill_n(model_.begin() + static_cast<ptrdiff_t>(block * kBlockBytes),
                    blocks * kBlockBytes, std::byte{0});
      } else {
        const Bytes bytes = Content(random, blocks);
        status = Run(WriteAt(writer->get(), block, &bytes));
        std::copy(bytes.begin(), bytes.end(),
                  model_.begin() + static_cast<ptrdiff_t>(block * kBlockBytes));
      }
      if (!status.ok()) return status;
    }
    Bytes back(kBlocks * kBlockBytes);
    const absl::Status read = Run((*writer)->Read(0, back));
    if (!read.ok()) return read;
    EXPECT_TRUE(back == model_);
    return Run((*writer)->Finish());
  }
  Bytes model_;
};

TEST_P(LayerFileTest, ReadsBackWhatWasWritten) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const std::string name = "layers/" + std::to_string(seed);
    const Uuid parent = seed % 2 == 0 ? Uuid{} : Uuid::Random();
    const absl::StatusOr<LayerSummary> summary = Make(name, parent, seed);
    ASSERT_OK(summary);
    const absl::StatusOr<Bytes> read = Run(ReadLayer(&storage(), name));
    ASSERT_OK(read);
    EXPECT_TRUE(*read == model_);
    const auto layer = Run(LoadLayerMap(storage(), name));
    ASSERT_OK(layer);
    EXPECT_EQ((*layer)->superblock.id, summary->id);
    EXPECT_EQ((*layer)->superblock.parent, parent);
    EXPECT_EQ((*layer)->superblock.created_by, "layer test");
    EXPECT_EQ(BlockOffsetBytes((*layer)->superblock.stored_blocks), summary->stored_bytes);
    // Zeros are never stored as data; with nothing below, they are not even said.
    bool has_zero = false;
    for (const Extent& extent : (*layer)->map.extents.extents()) has_zero |= !extent.is_data();
    EXPECT_EQ(has_zero, !parent.IsNil());
  }
}

TEST_P(LayerFileTest, RefusesWhatIsOutOfRange) {
  LayerWriterOptions options;
  EXPECT_THAT(LayerWriter::Create(storage(), "layers/x", options),
              IsCode(absl::StatusCode::kInvalidArgument));
  options.size_bytes = 1000;
  EXPECT_THAT(LayerWriter::Create(storage(), "layers/x", options),
              IsCode(absl::StatusCode::kInvalidArgument));
  options.size_bytes = 3 * kBlockBytes + 512;
  auto writer = LayerWriter::Create(storage(), "layers/x", options);
  ASSERT_OK(writer);
  EXPECT_THAT(LayerWriter::Create(storage(), "layers/x", options),
              IsCode(absl::StatusCode::kAlreadyExists));
  const Bytes block(kBlockBytes, std::byte{1});
  EXPECT_OK(Run((*writer)->Write(3, block)));
  EXPECT_THAT(Run((*writer)->Write(4, block)), IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Run((*writer)->Zero(2, 5)), IsCode(absl::StatusCode::kOutOfRange));
  EXPECT_THAT(Run((*writer)->Write(UINT64_MAX, block)), IsCode(absl::StatusCode::kOutOfRange));
  // Not a layer before Finish.
  EXPECT_THAT(Run(LoadLayerMap(storage(), "layers/x")), IsCode(absl::StatusCode::kDataLoss));
  EXPECT_OK(Run((*writer)->Finish()));
  EXPECT_OK(Run(LoadLayerMap(storage(), "layers/x")));
}

TEST_P(LayerFileTest, AnEmptyLayer) {
  LayerWriterOptions options;
  options.size_bytes = 512;
  auto writer = LayerWriter::Create(storage(), "layers/x", options);
  ASSERT_OK(writer);
  const absl::StatusOr<LayerSummary> summary = Run((*writer)->Finish());
  ASSERT_OK(summary);
  EXPECT_EQ(summary->stored_bytes, 0u);
  const auto layer = Run(LoadLayerMap(storage(), "layers/x"));
  ASSERT_OK(layer);
  EXPECT_TRUE((*layer)->map.extents.empty());
}

Task<absl::Status> RewriteWith(Storage* storage, std::string name, FileMap map, Uuid parent) {
  co_return co_await RewriteMap(*storage, std::move(name), std::move(map), parent);
}

TEST_P(LayerFileTest, PunchingFreesTheDeadAndKeepsTheLive) {
  const std::string name = "layers/x";
  ASSERT_OK(Make(name, {}, 9));
  const auto layer = Run(LoadLayerMap(storage(), name));
  ASSERT_OK(layer);
  // Every other extent stays.
  ExtentArrayBuilder builder;
  BlockRanges live;
  Bytes expected(model_.size());
  size_t index = 0;
  for (const Extent& extent : (*layer)->map.extents.extents()) {
    if (index++ % 2 == 0) continue;
    builder.Add({extent.start(), extent.length(), Segment::Kind::kData, 0, extent.physical()});
    live.emplace_back(extent.physical(), extent.physical() + extent.length());
    std::copy_n(model_.begin() + static_cast<ptrdiff_t>(BlockOffsetBytes(extent.start())),
                BlockOffsetBytes(extent.length()),
                expected.begin() + static_cast<ptrdiff_t>(BlockOffsetBytes(extent.start())));
  }
  FileMap map{builder.Build(), (*layer)->map.files};
  ASSERT_OK(Run(RewriteWith(&storage(), name, std::move(map), {})));
  const absl::StatusOr<uint64_t> freed = Run(PunchDead(storage(), name, live));
  ASSERT_OK(freed);
  EXPECT_GT(*freed, kMiB);
  const absl::StatusOr<Bytes> read = Run(ReadLayer(&storage(), name));
  ASSERT_OK(read);
  EXPECT_TRUE(*read == expected);
  EXPECT_EQ(*Run(PunchDead(storage(), name, live)), 0u);
}

INSTANTIATE_TEST_SUITE_P(AllStorages, LayerFileTest, testing::ValuesIn(AllRigs()), RigName);

// --- In memory

struct Made {
  MemoryStorage storage;
  Uuid id;
  std::string name;
};

Made MakeSmall() {
  Made made;
  LayerWriterOptions options;
  options.size_bytes = kBlocks * kBlockBytes;
  auto writer = LayerWriter::Create(made.storage, "layers/new", options);
  std::mt19937_64 random(1);
  const Bytes bytes = Content(random, 20);
  EXPECT_OK(RunInline(WriteAt(writer->get(), 7, &bytes)));
  made.id = RunInline((*writer)->Finish())->id;
  made.name = DataFileName(made.id);
  EXPECT_OK(made.storage.Rename("layers/new", made.name));
  return made;
}

// A crash at any moment of an edit leaves the old map or the new one.
TEST(RewriteMap, ACrashLeavesTheOldMapOrTheNew) {
  Made made = MakeSmall();
  const auto old = RunInline(LoadLayerMap(made.storage, made.name));
  ASSERT_OK(old);
  RecordingStorage recording(made.storage);
  ExtentArrayBuilder builder;
  builder.Add({0, 5, Segment::Kind::kZero});
  builder.Add({100, 3, Segment::Kind::kData, 1, 50});
  const FileMap edited{builder.Build(), {made.id, Uuid::Random()}};
  const Uuid parent = Uuid::Random();
  ASSERT_OK(RunInline(RewriteWith(&recording, made.name, edited, parent)));
  const size_t first_done = recording.position();
  // And once more, so that the other superblock is written over.
  ASSERT_OK(RunInline(RewriteWith(&recording, made.name, (*old)->map, {})));

  CrashSimulator simulator(recording.log());
  int old_seen = 0;
  int new_seen = 0;
  for (size_t position = 0; position <= recording.position(); ++position) {
    for (const CrashMode mode : {CrashMode::kDropUnsynced, CrashMode::kKeepAll, CrashMode::kTorn,
                                 CrashMode::kPrefix, CrashMode::kRandom}) {
      for (uint64_t seed = 0; seed < 6; ++seed) {
        MemoryStorage state = simulator.Build(position, mode, seed);
        const auto found = RunInline(LoadLayerMap(state, made.name));
        ASSERT_OK(found) << simulator.Describe(position);
        const auto extents = (*found)->map.extents.extents();
        const auto equals = [&](const FileMap& map) {
          return std::ranges::equal(extents, map.extents.extents()) &&
                 (*found)->map.files == map.files;
        };
        const bool is_old = equals((*old)->map);
        const bool is_new = equals(edited) && (*found)->superblock.parent == parent;
        ASSERT_TRUE(is_old || is_new) << position;
        if (position == first_done) {
          ASSERT_TRUE(is_new);
        }
        old_seen += is_old;
        new_seen += is_new;
      }
    }
  }
  EXPECT_GT(old_seen, 0);
  EXPECT_GT(new_seen, 0);
}

// The next generation would be one that cannot be read.
TEST(RewriteMap, AfterTheLastGenerationTheMapStaysAsItIs) {
  Made made = MakeSmall();
  const auto old = RunInline(LoadLayerMap(made.storage, made.name));
  ASSERT_OK(old);
  Superblock last = (*old)->superblock;
  last.generation = Superblock::kCountLimit - 1;
  auto file = made.storage.Open(made.name, OpenMode::kReadWrite);
  ASSERT_OK(file);
  ASSERT_OK(RunInline(WriteSuperblock(**file, last)));
  EXPECT_THAT(RunInline(RewriteMap(made.storage, made.name, {{}, {made.id}}, {})),
              IsCode(absl::StatusCode::kFailedPrecondition));
  const auto found = RunInline(LoadLayerMap(made.storage, made.name));
  ASSERT_OK(found);
  EXPECT_EQ((*found)->superblock, last);
  EXPECT_TRUE(std::ranges::equal((*found)->map.extents.extents(), (*old)->map.extents.extents()));
}

// The new map holds by then; gc finds the space later.
TEST(RewriteMap, AHoleThatCannotBePunchedFailsNothing) {
  Made made = MakeSmall();
  FaultPlan plan;
  FaultyStorage faulty(made.storage, &plan);
  plan.FailNth(Fault{IoRequest::Op::kPunchHole, "", 1, EIO, UINT64_MAX});
  const FileMap edited{ExtentArray({Extent::Zero(0, 5, 0)}), {made.id}};
  EXPECT_OK(RunInline(RewriteWith(&faulty, made.name, edited, {})));
  EXPECT_GT(plan.hit_count(), 0u);
  const auto found = RunInline(LoadLayerMap(made.storage, made.name));
  ASSERT_OK(found);
  EXPECT_EQ((*found)->map.extents.size(), 1u);
}

// ThreadSanitizer takes milliseconds for each large allocation, and there is one thread here.
#if defined(__SANITIZE_THREAD__)
constexpr uint64_t kDamageStepMax = 400;
constexpr int kDamageErrorsMin = 30;
#else
constexpr uint64_t kDamageStepMax = 13;
constexpr int kDamageErrorsMin = 1000;
#endif

TEST(LayerDamage, EveryDamagedByteIsAnErrorOrHarmless) {
  Made made = MakeSmall();
  const absl::StatusOr<Bytes> right = RunInline(ReadLayer(&made.storage, made.name));
  ASSERT_OK(right);
  const auto right_map = RunInline(LoadLayerMap(made.storage, made.name));
  MemoryStorage::Content& content = *made.storage.files().at(made.name);
  std::mt19937_64 random(4);
  int errors = 0;
  for (uint64_t at = 0; at < content.size_bytes; at += 1 + random() % kDamageStepMax) {
    std::byte byte;
    ASSERT_OK(ReadContent(content, at, {&byte, 1}));
    const std::byte damaged = byte ^ static_cast<std::byte>(1 << random() % 8);
    WriteContent(content, at, {&damaged, 1});
    const auto map = RunInline(LoadLayerMap(made.storage, made.name));
    const absl::StatusOr<Bytes> read = RunInline(ReadLayer(&made.storage, made.name));
    if (map.ok()) {
      ASSERT_EQ((*map)->superblock, (*right_map)->superblock);
    }
    if (read.ok()) {
      ASSERT_TRUE(*read == *right) << at;
    } else {
      ASSERT_THAT(read, IsCode(absl::StatusCode::kDataLoss)) << at;
      ASSERT_THAT(read, SaysThat(made.name));
      ++errors;
    }
    WriteContent(content, at, {&byte, 1});
  }
  EXPECT_GT(errors, kDamageErrorsMin);
}

// A table that is whole and says what cannot be.
TEST(LayerDamage, AChecksumPageWhereNoneCanBeIsRefused) {
  for (const uint64_t block : {uint64_t{1}, uint64_t{Extent::kPhysicalLimit}, UINT64_MAX}) {
    Made made = MakeSmall();
    MemoryStorage::Content& content = *made.storage.files().at(made.name);
    auto file = made.storage.Open(made.name, OpenMode::kReadWrite);
    ASSERT_OK(file);
    auto superblock = RunInline(ReadSuperblock(**file));
    ASSERT_OK(superblock);
    const std::span<const std::byte> table = std::as_bytes(std::span(&block, 1));
    ASSERT_EQ(superblock->sum_pages.entries, 1u);
    WriteContent(content, BlockOffsetBytes(superblock->sum_pages.block), table);
    superblock->sum_pages.check = Xxh3(table);
    ASSERT_OK(RunInline(WriteSuperblock(**file, *superblock)));
    EXPECT_THAT(RunInline(DataFile::Open(made.storage, made.name)),
                IsCode(absl::StatusCode::kDataLoss))
        << block;
  }
}

TEST(LayerDamage, TruncatedFilesAreRefused) {
  Made made = MakeSmall();
  const uint64_t size = made.storage.files().at(made.name)->size_bytes;
  for (uint64_t cut = 0; cut < size; cut += 700) {
    MemoryStorage copy = made.storage.Clone();
    TruncateContent(*copy.files().at(made.name), cut);
    EXPECT_THAT(RunInline(ReadLayer(&copy, made.name)), IsCode(absl::StatusCode::kDataLoss)) << cut;
  }
}

}  // namespace
}  // namespace cowl
