// diff --files: both disks are frozen, and read as ext4 in this process, outside the store's lock.
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/size_text.h"
#include "base/status.h"
#include "files/ext4_disk.h"
#include "files/ext4_files.h"
#include "files/file_changes.h"
#include "image/frozen_source.h"
#include "tools/cowl/call.h"
#include "tools/cowl/frozen.h"
#include "tools/cowl/interrupt.h"
#include "tools/cowl/progress_bar.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

// The newer disk and the older one, each with what keeps it as it is.
struct TwoDisks {
  FrozenLease newer;
  std::optional<FrozenLease> other;  // where B was named
  FrozenView older;
  std::string newer_name;
  std::string older_name;
};

// What `view` stands on: its layers from the origin downwards. They stay as long as `view` does.
absl::StatusOr<FrozenView> OriginOf(const FrozenView& view, const std::string& name) {
  FrozenView origin;
  origin.size_bytes = view.size_bytes;
  if (view.origin_layer.empty()) return origin;
  auto layer = view.layers.begin();
  while (layer != view.layers.end() && layer->id != view.origin_layer) ++layer;
  if (layer == view.layers.end()) {
    return FailedPrecondition(
        absl::StrCat(name, ": what it stands on is not in its chain any more: name B"));
  }
  origin.layers.assign(layer, view.layers.end());
  return origin;
}

absl::StatusOr<TwoDisks> Freeze(const Invocation& invocation) {
  const std::string a = invocation.Text("A");
  const std::string b = invocation.Text("B");
  COWL_ASSIGN_OR_RETURN(FrozenLease newer, FrozenLease::Take(invocation, a));
  TwoDisks disks{std::move(newer), std::nullopt, {}, a, b.empty() ? "what it stands on" : b};
  if (b.empty()) {
    COWL_ASSIGN_OR_RETURN(disks.older, OriginOf(disks.newer.view(), a));
    return disks;
  }
  COWL_ASSIGN_OR_RETURN(FrozenLease other, FrozenLease::Take(invocation, b));
  disks.older = other.view();
  disks.other = std::move(other);
  return disks;
}

absl::StatusOr<FileTree> FilesOf(const FrozenView& view, const std::string& name,
                                 ProgressBar& bar) {
  // Nothing at all is no file system, and has no files.
  if (view.layers.empty() && view.volume_path.empty()) return FileTree();
  COWL_ASSIGN_OR_RETURN(const std::unique_ptr<BlockSource> source, OpenFrozenView(view));
  absl::StatusOr<std::unique_ptr<Ext4Disk>> disk = Ext4Disk::Open(*source);
  if (!disk.ok()) return Annotate(disk.status(), name);
  absl::StatusOr<FileTree> tree = ReadFiles(**disk, [&] { return bar.Report(0, 0); });
  if (!tree.ok()) return Annotate(tree.status(), name);
  return tree;
}

ByteRanges RangesOf(const Json& document) {
  std::vector<ByteRange> ranges;
  for (const Json& extent : ListOf(document, "extents")) {
    const uint64_t begin = NumberOr(extent, "offset_bytes", 0);
    ranges.push_back({begin, begin + NumberOr(extent, "length_bytes", 0)});
  }
  return ByteRanges(std::move(ranges));
}

const char* KindName(FileChange::Kind kind) {
  switch (kind) {
    case FileChange::Kind::kAdded:
      return "added";
    case FileChange::Kind::kModified:
      return "modified";
    case FileChange::Kind::kDeleted:
      return "deleted";
  }
  return "";
}

// Length of the UTF-8 character at the front; 0: it is none, or not one to be printed.
size_t CharacterLength(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return first >= 0x20 && first != 0x7f && first != '\\' ? 1 : 0;
  const size_t length = first >= 0xc2 && first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (first < 0xc2 || length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  const bool is_overlong = (first == 0xe0 && second < 0xa0) || (first == 0xf0 && second < 0x90);
  const bool is_beyond = (first == 0xed && second >= 0xa0) || (first == 0xf4 && second >= 0x90);
  const bool is_control = first == 0xc2 && second < 0xa0;
  return is_overlong || is_beyond || is_control ? 0 : length;
}

// A name is any bytes: what is no printable UTF-8 shows as \xNN, and the backslash itself too, so
// that every name comes back whole.
std::string PathText(std::string_view path) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  while (!path.empty()) {
    const size_t length = CharacterLength(path);
    if (length > 0) {
      text.append(path.substr(0, length));
    } else {
      const auto byte = static_cast<unsigned char>(path[0]);
      text.append("\\x").push_back(kDigits[byte >> 4]);
      text.push_back(kDigits[byte & 15]);
    }
    path.remove_prefix(std::max<size_t>(length, 1));
  }
  return text;
}

Json FilesJson(const FileChanges& changes) {
  Json files = Json::array();
  for (const FileChange& change : changes.files) {
    Json file;
    file["path"] = PathText(change.path);
    file["change"] = KindName(change.kind);
    file["block_bytes"] = change.block_bytes;
    file["file_bytes"] = change.file_bytes;
    files.push_back(std::move(file));
  }
  return files;
}

std::string Report(const FileChanges& changes) {
  Table table({{"CHANGE"}, {"BLOCKS", Table::kRight}, {"OVERLAY2", Table::kRight}, {"PATH"}});
  uint64_t block_bytes = changes.other_bytes;
  uint64_t file_bytes = 0;
  for (const FileChange& change : changes.files) {
    block_bytes += change.block_bytes;
    file_bytes += change.file_bytes;
    table.Add({KindName(change.kind), FormatBytes(change.block_bytes),
               change.file_bytes == 0 ? "-" : FormatBytes(change.file_bytes),
               PathText(change.path)});
  }
  table.Add({"", FormatBytes(changes.other_bytes), "-", "(the file system's own)"});
  return absl::StrCat(table.Text(), changes.files.size(),
                      changes.files.size() == 1 ? " file: " : " files: ", FormatBytes(block_bytes),
                      " of blocks; overlay2 would have copied up ", FormatBytes(file_bytes), "\n");
}

}  // namespace

absl::Status RunDiffFiles(const Invocation& invocation, Output& output) {
  CatchInterrupts();
  COWL_ASSIGN_OR_RETURN(const TwoDisks disks, Freeze(invocation));
  const Json args = {{"a", invocation.Text("A")}, {"b", invocation.Text("B")}};
  COWL_ASSIGN_OR_RETURN(Json document, Call(invocation, "diff", args));
  ProgressBar bar("diff", output.quiet());
  COWL_ASSIGN_OR_RETURN(const FileTree older, FilesOf(disks.older, disks.older_name, bar));
  COWL_ASSIGN_OR_RETURN(const FileTree newer, FilesOf(disks.newer.view(), disks.newer_name, bar));
  const FileChanges changes = CompareFiles(newer, older, RangesOf(document));
  document["files"] = FilesJson(changes);
  PrintResult(output, document, Report(changes));
  return absl::OkStatus();
}

}  // namespace cowl
