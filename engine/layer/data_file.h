// data_file.h: one data file (a layer's, or an overlay's past), opened for reading: its superblock,
// sections, and blocks that are checked as they are read. Units: blocks. Threads: one loop.
// Ownership: owns the file; the page cache of checksums belongs to it. Errors: DataLoss names path
// and block when a block, a page or a section fails its check.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "format/superblock.h"
#include "io/file.h"
#include "io/task.h"
#include "layer/extent_array.h"

namespace cowl {

// Where a file's checksum pages are, and those that were read already.
class SumTable {
 public:
  // 16 MiB, the checksums of 8 GiB of the file. They go with the table: when the last device or
  // image that reads the file is closed.
  static constexpr size_t kKeptPagesMax = 4096;

  SumTable(File& file, std::vector<uint64_t> page_blocks, size_t kept_pages_max = kKeptPagesMax)
      : file_(file),
        kept_pages_max_(kept_pages_max),
        page_blocks_(std::move(page_blocks)),
        pages_(page_blocks_.size()) {
    COWL_CHECK(kept_pages_max > 0);
  }

  // Fills `sums` with the checksums of the blocks from `physical` on.
  Task<absl::Status> Load(uint64_t physical, std::span<uint64_t> sums);
  // The page's bytes, verified; all zero for a page that is not there yet. Valid until the next
  // call.
  Task<absl::StatusOr<std::span<const std::byte>>> Page(uint64_t index);

  // Asks for the checksum of a block to be brought into the CPU's cache, where its page is at hand.
  void Expect(uint64_t physical) const;

  const std::vector<uint64_t>& page_blocks() const { return page_blocks_; }
  // The table after a checkpoint; pages whose block changed are forgotten.
  void Replace(std::vector<uint64_t> page_blocks);

 private:
  using PageBytes = std::unique_ptr<std::byte[]>;

  uint64_t BlockOf(uint64_t index) const;  // 0: no such page
  std::span<const std::byte> Keep(uint64_t index, PageBytes bytes);

  File& file_;
  const size_t kept_pages_max_;
  std::vector<uint64_t> page_blocks_;
  std::vector<PageBytes> pages_;  // by index; null: not read yet, or let go
  size_t kept_pages_ = 0;
  size_t next_victim_ = 0;
};

// Reads a section and verifies it. `into` must be entries x entry size long.
Task<absl::Status> ReadSection(File& file, const Section& section, std::span<std::byte> into,
                               const char* what);

// Reads and chooses the superblock.
Task<absl::StatusOr<Superblock>> ReadSuperblock(File& file);

// The map of a data file, as its superblock names it.
struct FileMap {
  ExtentArray extents;
  std::vector<Uuid> files;  // source 0: the file itself; 1...: other layers' data files
};
Task<absl::StatusOr<FileMap>> ReadFileMap(File& file, const Superblock& superblock);
Task<absl::StatusOr<std::vector<uint64_t>>> ReadPageTable(File& file, const Superblock& superblock);

// A data file with what its superblock says of where things are.
struct DataFileLayout {
  std::unique_ptr<File> file;
  Superblock superblock;
  std::vector<uint64_t> page_blocks;  // of checksums
};
Task<absl::StatusOr<DataFileLayout>> OpenLayout(Storage& storage, std::string name, OpenMode mode);

// "PATH: block N (stored at block P) fails its checksum"
absl::Status BadBlock(const std::string& path, uint64_t physical);

// Compares each block with its checksum.
absl::Status VerifyBlocks(std::span<const std::byte> data, std::span<const uint64_t> sums,
                          uint64_t physical, const std::string& path);

class DataFile {
 public:
  // Opens `name` for reading; validates superblock and checksum page table. Does not read the map.
  static Task<absl::StatusOr<std::shared_ptr<DataFile>>> Open(Storage& storage, std::string name);

  // Blocks [physical, physical + into.size() / 4096), verified.
  Task<absl::Status> Read(uint64_t physical, std::span<std::byte> into);

  // Asks for what Read of this block needs to be brought into the CPU's cache.
  void ExpectRead(uint64_t physical) const { sums_.Expect(physical); }

  File& file() { return *file_; }

 private:
  DataFile(std::unique_ptr<File> file, std::vector<uint64_t> page_blocks)
      : file_(std::move(file)), sums_(*file_, std::move(page_blocks)) {}

  std::unique_ptr<File> file_;
  SumTable sums_;
};

}  // namespace cowl
