// memory_storage.h: files that live in memory and complete every request at once: tests run whole
// engines on them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/file.h"

namespace cowl {

class MemoryStorage : public Storage {
 public:
  // A file's content in pages; absent pages are holes.
  struct Content {
    std::map<uint64_t, std::vector<std::byte>> pages;
    uint64_t size_bytes = 0;
  };

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& name, OpenMode mode) override;
  absl::Status Remove(const std::string& name) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override;

  // A storage of its own with the same names and bytes.
  MemoryStorage Clone() const;

  // The files by name, for tests that copy, alter or inspect them.
  std::map<std::string, std::shared_ptr<Content>>& files() { return *files_; }

 private:
  std::shared_ptr<std::map<std::string, std::shared_ptr<Content>>> files_ =
      std::make_shared<std::map<std::string, std::shared_ptr<Content>>>();
};

// What the files of MemoryStorage do with a Content.
absl::Status ReadContent(const MemoryStorage::Content& content, uint64_t offset_bytes,
                         std::span<std::byte> into);
void WriteContent(MemoryStorage::Content& content, uint64_t offset_bytes,
                  std::span<const std::byte> from);
void PunchContent(MemoryStorage::Content& content, uint64_t offset_bytes, uint64_t length_bytes);
void TruncateContent(MemoryStorage::Content& content, uint64_t size_bytes);

}  // namespace cowl
