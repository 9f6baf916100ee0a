// Damage: any bit of any file of a device's stack may flip, sectors may come back as garbage or
// zeros. What is read then is an error or right, never wrong.
#include <gtest/gtest.h>

#include <random>

#include "base/units.h"
#include "io/memory_storage.h"
#include "stack/seeds.h"
#include "stack/stack.h"
#include "support/status_matchers.h"

namespace cowl {
namespace {

using Bytes = std::vector<std::byte>;
constexpr uint64_t kBlocks = 48;

struct Scene {
  MemoryStorage disk;
  StackCatalog catalog;
  Bytes image;
};

Task<absl::Status> ReadAll(CowDevice* device, Bytes* image) {
  image->resize(device->size_bytes());
  co_return co_await device->Read(0, *image);
}

// A layer or two, an overlay with a checkpoint and a journal behind it; at rest, flushed; closed,
// or left as by kill -9.
Scene Make(std::mt19937_64& random, bool close) {
  Scene scene;
  InlineLoop loop;
  Stack stack(loop, scene.disk, StackCatalog{kBlocks * kBlockBytes, {}, {}, {}});
  EXPECT_OK(RunInline(stack.Open()));
  const auto change_some = [&](int count) {
    for (int i = 0; i < count; ++i) {
      const uint64_t block = random() % kBlocks;
      const uint64_t blocks = 1 + random() % std::min<uint64_t>(4, kBlocks - block);
      if (random() % 5 == 0) {
        EXPECT_OK(RunInline(
            stack.device().Discard(BlockOffsetBytes(block), BlockOffsetBytes(blocks), {})));
      } else {
        const Bytes bytes = RandomBytes(random, BlockOffsetBytes(blocks));
        EXPECT_OK(RunInline(stack.device().Write(BlockOffsetBytes(block), bytes, {})));
      }
      if (random() % 10 == 0) {
        EXPECT_OK(RunInline(stack.device().Flush()));
      }
    }
  };
  change_some(30);
  EXPECT_OK(RunInline(stack.Snapshot()));
  change_some(12);
  if (random() % 2 == 0) {
    EXPECT_OK(RunInline(stack.device().overlay()->Checkpoint()));
  }
  // Sometimes more than one chunk of journal.
  change_some(random() % 3 == 0 ? 900 : 20);
  EXPECT_OK(RunInline(stack.device().Flush()));
  for (int i = 0; i < 3; ++i) loop.WakeSleepers();  // some seconds pass
  EXPECT_OK(RunInline(ReadAll(&stack.device(), &scene.image)));
  EXPECT_OK(RunInline(close ? stack.Close() : stack.Drop()));
  scene.catalog = stack.catalog();
  return scene;
}

// "" when every block reads right or not at all.
std::string Look(Scene& scene, int* errors) {
  InlineLoop loop;
  Stack stack(loop, scene.disk, scene.catalog);
  if (const absl::Status status = RunInline(stack.Open()); !status.ok()) {
    ++*errors;
    return status.code() == absl::StatusCode::kDataLoss ||
                   status.code() == absl::StatusCode::kFailedPrecondition
               ? ""
               : "a strange error: " + status.ToString();
  }
  std::string wrong;
  for (uint64_t block = 0; block < kBlocks; ++block) {
    Bytes bytes(kBlockBytes);
    const absl::Status status = RunInline(stack.device().Read(BlockOffsetBytes(block), bytes));
    *errors += !status.ok();
    const auto right = std::span(scene.image).subspan(BlockOffsetBytes(block), kBlockBytes);
    if (status.ok() && !std::equal(bytes.begin(), bytes.end(), right.begin()))
      wrong += " " + std::to_string(block);
  }
  EXPECT_OK(RunInline(stack.Drop()));
  return wrong.empty() ? "" : "wrong blocks:" + wrong;
}

// Places worth damaging: superblocks often, everything else by chance.
uint64_t PickPlace(std::mt19937_64& random, uint64_t size) {
  return random() % 4 == 0 ? random() % std::min<uint64_t>(size, 2 * kBlockBytes) : random() % size;
}

void DamageAndLook(bool close, uint64_t number) {
  TestSeed();
  std::mt19937_64 random = TestRandom(number);
  int errors = 0;
  for (int scene_number = 0; scene_number < 6; ++scene_number) {
    Scene scene = Make(random, close);
    ASSERT_EQ(Look(scene, &errors), "") << "without damage";
    ASSERT_EQ(errors, scene_number == 0 ? 0 : errors);
    std::vector<std::string> names;
    for (const auto& [name, content] : scene.disk.files()) names.push_back(name);
    for (uint64_t i = 0; i < TestSteps(500); ++i) {
      const std::string& name = names[random() % names.size()];
      MemoryStorage::Content& content = *scene.disk.files().at(name);
      const uint64_t at = PickPlace(random, content.size_bytes) / kSectorBytes * kSectorBytes;
      Bytes sector(kSectorBytes);
      ASSERT_OK(ReadContent(content, at, sector));
      Bytes damaged = sector;
      const uint64_t kind = random() % 8;
      if (kind == 0) damaged = Bytes(kSectorBytes);
      if (kind == 1) damaged = RandomBytes(random, kSectorBytes);
      if (kind > 1) damaged[random() % kSectorBytes] ^= static_cast<std::byte>(1 << random() % 8);
      WriteContent(content, at, damaged);
      const std::string wrong = Look(scene, &errors);
      ASSERT_EQ(wrong, "") << "damage of kind " << kind << " at " << at << " of " << name
                           << ", scene " << scene_number << ", seed " << TestSeed();
      WriteContent(content, at, sector);
    }
  }
  EXPECT_GT(errors, 100);
  std::printf("%d errors seen\n", errors);
}

TEST(Damage, OfAClosedDeviceIsNeverServed) { DamageAndLook(true, 20); }
TEST(Damage, OfAKilledDeviceAtRestIsNeverServed) { DamageAndLook(false, 21); }

}  // namespace
}  // namespace cowl
