// Staged files: those of the living stay, those of the dead go.
#include "store/staging.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace cowl {
namespace {

class StagingTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/cowl-staging-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    store_ = name;
    std::filesystem::create_directory(store_ + "/staging");
  }
  void TearDown() override { std::filesystem::remove_all(store_); }

  static void Fill(const std::string& path) { std::ofstream(path) << std::string(8192, 'x'); }
  bool IsEmpty() const { return std::filesystem::is_empty(store_ + "/staging"); }

  std::string store_;
};

TEST_F(StagingTest, AStagedFileGoesWithItsMaker) {
  {
    auto staged = StagedFile::Make(store_);
    ASSERT_TRUE(staged.ok()) << staged.status();
    Fill(staged->path());
  }
  EXPECT_TRUE(IsEmpty());
}

TEST_F(StagingTest, AFileInUseIsNotAbandoned) {
  auto staged = StagedFile::Make(store_);
  ASSERT_TRUE(staged.ok()) << staged.status();
  Fill(staged->path());
  EXPECT_EQ(FindAbandoned(store_).file_count, 0u);
  EXPECT_EQ(RemoveAbandoned(store_).file_count, 0u);
  EXPECT_TRUE(std::filesystem::exists(staged->path()));
}

TEST_F(StagingTest, WhatAKilledProcessLeftIsRemoved) {
  const pid_t child = ::fork();
  if (child == 0) {
    auto staged = StagedFile::Make(store_);
    if (staged.ok()) Fill(staged->path());
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  ASSERT_FALSE(IsEmpty());
  EXPECT_EQ(FindAbandoned(store_).file_count, 1u);
  const Abandoned removed = RemoveAbandoned(store_);
  EXPECT_EQ(removed.file_count, 1u);
  EXPECT_GE(removed.disk_bytes, 8192u);
  EXPECT_TRUE(IsEmpty());
  EXPECT_EQ(FindAbandoned(store_).file_count, 0u);
}

TEST_F(StagingTest, AStoreWithoutTheFolderHasNone) {
  EXPECT_EQ(FindAbandoned(store_ + "/none").file_count, 0u);
  EXPECT_FALSE(StagedFile::Make(store_ + "/none").ok());
}

}  // namespace
}  // namespace cowl
