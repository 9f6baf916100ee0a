// Which files changed blocks belong to, and what overlayfs would have copied up.
#include "files/file_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cowl {

bool operator==(const FileChange& a, const FileChange& b) {
  return a.path == b.path && a.kind == b.kind && a.block_bytes == b.block_bytes &&
         a.file_bytes == b.file_bytes;
}
void PrintTo(const FileChange& change, std::ostream* out) {
  *out << change.path << " " << static_cast<int>(change.kind) << " " << change.block_bytes << " "
       << change.file_bytes;
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;
constexpr auto kAdded = FileChange::Kind::kAdded;
constexpr auto kModified = FileChange::Kind::kModified;
constexpr auto kDeleted = FileChange::Kind::kDeleted;

FileState Regular(uint32_t inode, uint64_t size_bytes, std::vector<ByteRange> ranges) {
  FileState state;
  state.inode = inode;
  state.generation = 1;
  state.mode = 0100644;
  state.size_bytes = size_bytes;
  state.ranges = std::move(ranges);
  return state;
}

FileTree TreeOf(std::vector<std::pair<std::vector<std::string>, FileState>> files) {
  FileTree tree;
  for (auto& [paths, state] : files) {
    for (const std::string& path : paths)
      tree.paths[path] = static_cast<uint32_t>(tree.states.size());
    tree.states.push_back(std::move(state));
  }
  return tree;
}

TEST(FileChangesTest, AChangedBlockMakesItsFileModifiedAndCopiedUpWhole) {
  const FileTree tree = TreeOf(
      {{{"/a"}, Regular(12, 8192, {{0, 8192}})}, {{"/b"}, Regular(13, 4096, {{8192, 12288}})}});
  const FileChanges changes = CompareFiles(tree, tree, ByteRanges({{4096, 8192}}));
  EXPECT_THAT(changes.files, ElementsAre(FileChange{"/a", kModified, 4096, 8192}));
  EXPECT_EQ(changes.other_bytes, 0u);
}

TEST(FileChangesTest, BlocksOfNoFileAreTheFileSystems) {
  const FileTree tree = TreeOf({{{"/a"}, Regular(12, 4096, {{0, 4096}})}});
  const FileChanges changes = CompareFiles(tree, tree, ByteRanges({{4096, 12288}}));
  EXPECT_THAT(changes.files, IsEmpty());
  EXPECT_EQ(changes.other_bytes, 8192u);
}

TEST(FileChangesTest, ARenamedFileIsCopiedUpOnceAndHasNoBlocks) {
  const FileState state = Regular(12, 5000, {{0, 8192}});
  const FileChanges changes =
      CompareFiles(TreeOf({{{"/new"}, state}}), TreeOf({{{"/old"}, state}}), ByteRanges());
  EXPECT_THAT(changes.files,
              ElementsAre(FileChange{"/new", kAdded, 0, 5000}, FileChange{"/old", kDeleted, 0, 0}));
}

TEST(FileChangesTest, OfSeveralNamesTheFirstHasTheBlocksAndTheCopy) {
  const FileState state = Regular(12, 4096, {{0, 4096}});
  const FileTree tree = TreeOf({{{"/a", "/b"}, state}});
  const FileChanges changes = CompareFiles(tree, tree, ByteRanges({{0, 4096}}));
  EXPECT_THAT(changes.files, ElementsAre(FileChange{"/a", kModified, 4096, 4096},
                                         FileChange{"/b", kModified, 0, 0}));
}

TEST(FileChangesTest, AnInodeThatWasGivenToAnotherFileIsNotCopiedUp) {
  FileState other = Regular(12, 100, {{4096, 8192}});
  other.generation = 2;
  const FileChanges changes =
      CompareFiles(TreeOf({{{"/a"}, other}}), TreeOf({{{"/a"}, Regular(12, 4096, {{0, 4096}})}}),
                   ByteRanges({{0, 8192}}));
  // The block that the former file lost is told with its path.
  EXPECT_THAT(changes.files, ElementsAre(FileChange{"/a", kModified, 8192, 0}));
}

TEST(FileChangesTest, ABlockThatADeletedFileLeftToANewOneCountsForTheNewOne) {
  const FileTree newer = TreeOf({{{"/new"}, Regular(13, 4096, {{0, 4096}})}});
  const FileTree older = TreeOf({{{"/old"}, Regular(12, 8192, {{0, 8192}})}});
  const FileChanges changes = CompareFiles(newer, older, ByteRanges({{0, 8192}}));
  EXPECT_THAT(changes.files, ElementsAre(FileChange{"/new", kAdded, 4096, 0},
                                         FileChange{"/old", kDeleted, 4096, 0}));
}

TEST(ByteRangesTest, SharesEachByteOnceAndReturnsTheRest) {
  std::vector<std::pair<uint32_t, uint64_t>> given;
  const ByteRanges left =
      Share(ByteRanges({{0, 100}, {200, 300}}), {{{50, 250}, 1}, {{60, 260}, 2}, {{290, 400}, 3}},
            [&](uint32_t owner, uint64_t bytes) {
              given.push_back({owner, bytes});
            });
  EXPECT_THAT(given, ElementsAre(std::pair(1u, 100u), std::pair(2u, 10u), std::pair(3u, 10u)));
  EXPECT_THAT(left.ranges(), ElementsAre(ByteRange{0, 50}, ByteRange{260, 290}));
}

}  // namespace
}  // namespace cowl
