// fakes.h: sinks and sources of the tests of import and export, and small helpers for files.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "image/block_sink.h"
#include "image/block_source.h"

namespace cowl {

#define ASSERT_OK(expression)                                \
  do {                                                       \
    const absl::Status test_status = (expression);           \
    ASSERT_TRUE(test_status.ok()) << test_status.ToString(); \
  } while (0)

// A folder that goes away with the test.
class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/cowl-image-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void WriteFile(const std::string& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  ASSERT_TRUE(out.good()) << path;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

inline std::string RandomBytes(size_t count, uint32_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(RoundUp(count, 8), '\0');
  for (size_t i = 0; i < bytes.size(); i += 8) StoreLittle<uint64_t>(bytes.data() + i, random());
  bytes.resize(count);
  return bytes;
}

// Blocks in memory, and what was asked for.
class MemorySink : public BlockSink {
 public:
  explicit MemorySink(uint64_t size_bytes) : size_bytes_(size_bytes) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  absl::Status Write(uint64_t block, std::span<const std::byte> data) override {
    EXPECT_EQ(data.size() % kBlockBytes, 0u);
    EXPECT_LE(BlockOffsetBytes(block) + data.size(), RoundUp(size_bytes_, kBlockBytes));
    written_bytes += data.size();
    for (; !data.empty(); ++block, data = data.subspan(kBlockBytes)) {
      blocks[block] = std::string(AsText(data.first(kBlockBytes)));
    }
    return absl::OkStatus();
  }
  absl::Status Zero(uint64_t begin, uint64_t end) override {
    for (uint64_t block = begin; block < end; ++block)
      blocks[block] = std::string(kBlockBytes, '\0');
    return absl::OkStatus();
  }
  absl::StatusOr<SinkSummary> Finish() override { return SinkSummary{"memory", StoredBytes()}; }

  uint64_t StoredBytes() const {
    uint64_t stored = 0;
    for (const auto& [block, data] : blocks) {
      if (!IsZero(AsBytes(data))) stored += kBlockBytes;
    }
    return stored;
  }
  // The disk as one string; `below` shows through where nothing was written.
  std::string Content(std::string below = "") const {
    std::string content = std::move(below);
    content.resize(RoundUp(size_bytes_, kBlockBytes), '\0');
    for (const auto& [block, data] : blocks)
      content.replace(BlockOffsetBytes(block), kBlockBytes, data);
    content.resize(size_bytes_);
    return content;
  }

  std::map<uint64_t, std::string> blocks;
  uint64_t written_bytes = 0;

 private:
  const uint64_t size_bytes_;
};

// A disk in memory as a source; runs of zero blocks are reported as such when `sparse`.
class StringSource : public BlockSource {
 public:
  explicit StringSource(std::string content, bool sparse = true)
      : content_(std::move(content)), sparse_(sparse) {}

  uint64_t size_bytes() const override { return content_.size(); }
  absl::StatusOr<SourceRun> Next(uint64_t offset) override {
    const uint64_t rest = content_.size() - offset;
    if (!sparse_) return SourceRun{rest, false};
    const bool zero = content_[offset] == 0;
    uint64_t end = offset;
    while (end < content_.size() && (content_[end] == 0) == zero) ++end;
    return SourceRun{end - offset, zero};
  }
  absl::Status Read(uint64_t offset, std::span<std::byte> into) override {
    read_bytes += into.size();
    std::memcpy(into.data(), content_.data() + offset, into.size());
    return absl::OkStatus();
  }

  uint64_t read_bytes = 0;

 private:
  const std::string content_;
  const bool sparse_;
};

// A disk in a sparse file, for tools that want one.
class FileSink : public BlockSink {
 public:
  FileSink(const std::string& path, uint64_t size_bytes) : size_bytes_(size_bytes) {
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600);
    EXPECT_EQ(ftruncate(fd_, static_cast<off_t>(size_bytes)), 0);
  }
  ~FileSink() override { close(fd_); }

  uint64_t size_bytes() const override { return size_bytes_; }
  absl::Status Write(uint64_t block, std::span<const std::byte> data) override {
    for (; !data.empty(); ++block, data = data.subspan(kBlockBytes)) {
      ++writes_of[block];
      if (IsZero(data.first(kBlockBytes))) continue;
      stored_bytes += kBlockBytes;
      const off_t at = static_cast<off_t>(BlockOffsetBytes(block));
      if (pwrite(fd_, data.data(), kBlockBytes, at) != kBlockBytes) return Internal("pwrite");
    }
    return absl::OkStatus();
  }
  absl::Status Zero(uint64_t, uint64_t) override { return Internal("not expected"); }
  absl::StatusOr<SinkSummary> Finish() override { return SinkSummary{"file", stored_bytes}; }

  uint64_t stored_bytes = 0;
  std::map<uint64_t, int> writes_of;

 private:
  const uint64_t size_bytes_;
  int fd_;
};

}  // namespace cowl
