#include "io/memory_storage.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "base/units.h"

namespace cowl {
namespace {

using Content = MemoryStorage::Content;

class MemoryFile : public File {
 public:
  MemoryFile(std::string path, std::shared_ptr<Content> content, bool is_writable)
      : File(std::move(path)), content_(std::move(content)), is_writable_(is_writable) {}

  absl::StatusOr<uint64_t> SizeBytes() const override { return content_->size_bytes; }
  absl::StatusOr<uint64_t> DiskBytes() const override {
    return content_->pages.size() * kBlockBytes;
  }

  bool Start(IoRequest& request) override {
    request.status = Execute(request);
    return true;
  }

 private:
  // The same refusals as a real file's.
  absl::Status Validate(const IoRequest& request) const {
    constexpr uint64_t kFileBytesMax = std::numeric_limits<int64_t>::max();
    uint64_t length = request.length_bytes;
    for (const iovec& part : request.buffers) length += part.iov_len;
    const bool is_read = request.op == IoRequest::Op::kRead;
    if (request.offset_bytes > kFileBytesMax || length > kFileBytesMax - request.offset_bytes) {
      if (is_read)
        return absl::OutOfRangeError(absl::StrCat("read ", path(), ": no file is that long"));
      return ErrnoStatus(EFBIG, "write", path());
    }
    if (!is_writable_ && !is_read && request.op != IoRequest::Op::kSync)
      return ErrnoStatus(EBADF, "write", path());
    return absl::OkStatus();
  }

  absl::Status Execute(const IoRequest& request) {
    COWL_RETURN_IF_ERROR(Validate(request));
    uint64_t offset = request.offset_bytes;
    switch (request.op) {
      case IoRequest::Op::kRead:
        for (const iovec& part : request.buffers) {
          const absl::Status status = ReadContent(
              *content_, offset, {static_cast<std::byte*>(part.iov_base), part.iov_len});
          if (!status.ok()) return Annotate(status, path());
          offset += part.iov_len;
        }
        return absl::OkStatus();
      case IoRequest::Op::kWrite:
        for (const iovec& part : request.buffers) {
          WriteContent(*content_, offset,
                       {static_cast<const std::byte*>(part.iov_base), part.iov_len});
          offset += part.iov_len;
        }
        return absl::OkStatus();
      case IoRequest::Op::kSync:
        return absl::OkStatus();
      case IoRequest::Op::kAllocate:
        if (request.length_bytes == 0) return absl::OkStatus();
        content_->size_bytes = std::max(content_->size_bytes, offset + request.length_bytes);
        return absl::OkStatus();
      case IoRequest::Op::kPunchHole:
        PunchContent(*content_, offset, request.length_bytes);
        return absl::OkStatus();
      case IoRequest::Op::kTruncate:
        TruncateContent(*content_, offset);
        return absl::OkStatus();
    }
    return Internal("unknown file operation");
  }

  const std::shared_ptr<Content> content_;
  const bool is_writable_;
};

}  // namespace

absl::Status ReadContent(const Content& content, uint64_t offset_bytes, std::span<std::byte> into) {
  if (into.empty()) return absl::OkStatus();
  if (offset_bytes > content.size_bytes || into.size() > content.size_bytes - offset_bytes) {
    return absl::OutOfRangeError(absl::StrCat("read of ", into.size(), " bytes at ", offset_bytes,
                                              " passes the end at ", content.size_bytes));
  }
  while (!into.empty()) {
    const uint64_t within = offset_bytes % kBlockBytes;
    const size_t count = std::min<uint64_t>(kBlockBytes - within, into.size());
    const auto found = content.pages.find(offset_bytes / kBlockBytes);
    if (found == content.pages.end()) {
      std::memset(into.data(), 0, count);
    } else {
      std::memcpy(into.data(), found->second.data() + within, count);
    }
    into = into.subspan(count);
    offset_bytes += count;
  }
  return absl::OkStatus();
}

void WriteContent(Content& content, uint64_t offset_bytes, std::span<const std::byte> from) {
  if (from.empty()) return;
  content.size_bytes = std::max(content.size_bytes, offset_bytes + from.size());
  while (!from.empty()) {
    const uint64_t within = offset_bytes % kBlockBytes;
    const size_t count = std::min<uint64_t>(kBlockBytes - within, from.size());
    std::vector<std::byte>& page = content.pages[offset_bytes / kBlockBytes];
    if (page.empty()) page.resize(kBlockBytes);
    std::memcpy(page.data() + within, from.data(), count);
    from = from.subspan(count);
    offset_bytes += count;
  }
}

void PunchContent(MemoryStorage::Content& content, uint64_t offset_bytes, uint64_t length_bytes) {
  if (offset_bytes >= content.size_bytes) return;
  const uint64_t end = offset_bytes + std::min(length_bytes, content.size_bytes - offset_bytes);
  // Over the pages that are there: a range may be far longer than what it holds.
  auto page = content.pages.lower_bound(BlocksFloor(offset_bytes));
  while (page != content.pages.end() && BlockOffsetBytes(page->first) < end) {
    const uint64_t page_begin = BlockOffsetBytes(page->first);
    const uint64_t from = std::max(offset_bytes, page_begin) - page_begin;
    const uint64_t to = std::min<uint64_t>(end - page_begin, kBlockBytes);
    if (from == 0 && to == kBlockBytes) {
      page = content.pages.erase(page);
    } else {
      std::memset(page->second.data() + from, 0, to - from);
      ++page;
    }
  }
}

void TruncateContent(MemoryStorage::Content& content, uint64_t size_bytes) {
  if (size_bytes < content.size_bytes)
    PunchContent(content, size_bytes, content.size_bytes - size_bytes);
  content.pages.erase(content.pages.lower_bound(BlocksCeil(size_bytes)), content.pages.end());
  content.size_bytes = size_bytes;
}

absl::StatusOr<std::unique_ptr<File>> MemoryStorage::Open(const std::string& name, OpenMode mode) {
  auto found = files_->find(name);
  if (mode == OpenMode::kCreate) {
    if (found != files_->end())
      return AlreadyExists(absl::StrCat("create ", name, ": it is there already"));
    found = files_->emplace(name, std::make_shared<Content>()).first;
  }
  if (found == files_->end()) return NotFound(absl::StrCat("open ", name, ": no such file"));
  return std::make_unique<MemoryFile>(name, found->second, mode != OpenMode::kRead);
}

absl::Status MemoryStorage::Remove(const std::string& name) {
  if (files_->erase(name) == 0) return NotFound(absl::StrCat("remove ", name, ": no such file"));
  return absl::OkStatus();
}

absl::Status MemoryStorage::Rename(const std::string& from, const std::string& to) {
  auto found = files_->find(from);
  if (found == files_->end()) return NotFound(absl::StrCat("rename ", from, ": no such file"));
  (*files_)[to] = found->second;
  files_->erase(from);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> MemoryStorage::List(const std::string& folder) {
  const std::string prefix = folder.empty() ? "" : folder + "/";
  std::vector<std::string> names;
  for (const auto& [name, content] : *files_) {
    if (name.starts_with(prefix)) names.push_back(name.substr(prefix.size()));
  }
  return names;
}

MemoryStorage MemoryStorage::Clone() const {
  MemoryStorage clone;
  for (const auto& [name, content] : *files_)
    clone.files_->emplace(name, std::make_shared<Content>(*content));
  return clone;
}

}  // namespace cowl
