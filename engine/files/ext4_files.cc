#include "files/ext4_files.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr uint32_t kInodeBytesMax = 4096;

struct Name {
  std::string name;
  ext2_ino_t inode = 0;
};

class Reader {
 public:
  Reader(Ext4Disk& disk, const std::function<bool()>& goes_on) : disk_(disk), goes_on_(goes_on) {}

  absl::StatusOr<FileTree> Run();

 private:
  struct Directory {
    std::string path;  // without the slash at its end; empty: the root
    ext2_ino_t inode;
  };

  absl::Status ReadDirectory(const Directory& directory);
  absl::StatusOr<std::vector<Name>> Names(const Directory& directory);
  absl::Status Take(const std::string& path, ext2_ino_t inode);
  absl::StatusOr<FileState> StateOf(ext2_ino_t inode);
  absl::Status AddRanges(ext2_ino_t inode, ext2_inode& found, FileState& state);
  void AddAttributes(const ext2_inode_large& found, std::span<const char> raw, FileState& state);

  Ext4Disk& disk_;
  const std::function<bool()>& goes_on_;
  FileTree tree_;
  std::unordered_map<ext2_ino_t, uint32_t> seen_;  // indices of states
  std::vector<Directory> directories_;             // to be read
  uint64_t claimed_blocks_ = 0;
};

absl::StatusOr<FileTree> Reader::Run() {
  COWL_RETURN_IF_ERROR(Take("/", EXT2_ROOT_INO));
  directories_.push_back({"", EXT2_ROOT_INO});
  while (!directories_.empty()) {
    if (goes_on_ && !goes_on_()) return absl::CancelledError("interrupted");
    const Directory directory = std::move(directories_.back());
    directories_.pop_back();
    COWL_RETURN_IF_ERROR(ReadDirectory(directory));
  }
  return std::move(tree_);
}

absl::Status Reader::ReadDirectory(const Directory& directory) {
  COWL_ASSIGN_OR_RETURN(const std::vector<Name> names, Names(directory));
  for (const Name& name : names) {
    const std::string path = absl::StrCat(directory.path, "/", name.name);
    const bool is_new = !seen_.contains(name.inode);
    COWL_RETURN_IF_ERROR(Take(path, name.inode));
    if (!LINUX_S_ISDIR(tree_.states[seen_.at(name.inode)].mode)) continue;
    if (!is_new) {
      return DataLoss(absl::StrCat("its ext4 is damaged: directory ", path,
                                   " has two names (inode ", name.inode, ")"));
    }
    directories_.push_back({path, name.inode});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Name>> Reader::Names(const Directory& directory) {
  std::vector<Name> names;
  const auto add = [](ext2_dir_entry* entry, int, int, char*, void* into) {
    const int length = ext2fs_dirent_name_len(entry);
    const std::string name(entry->name, static_cast<size_t>(length));
    if (entry->inode != 0 && name != "." && name != "..")
      static_cast<std::vector<Name>*>(into)->push_back({name, entry->inode});
    return 0;
  };
  COWL_RETURN_IF_ERROR(
      disk_.Check(ext2fs_dir_iterate(disk_.fs(), directory.inode, 0, nullptr, add, &names),
                  absl::StrCat("read directory ", directory.path, "/")));
  return names;
}

absl::Status Reader::Take(const std::string& path, ext2_ino_t inode) {
  auto [found, is_new] = seen_.try_emplace(inode, static_cast<uint32_t>(tree_.states.size()));
  if (is_new) {
    absl::StatusOr<FileState> state = StateOf(inode);
    if (!state.ok()) return Annotate(state.status(), absl::StrCat("file ", path));
    tree_.states.push_back(*std::move(state));
  }
  tree_.paths.emplace(path, found->second);
  return absl::OkStatus();
}

absl::StatusOr<FileState> Reader::StateOf(ext2_ino_t inode) {
  std::vector<char> raw(std::clamp<size_t>(EXT2_INODE_SIZE(disk_.fs()->super),
                                           sizeof(ext2_inode_large), kInodeBytesMax));
  ext2_inode_large found{};
  COWL_RETURN_IF_ERROR(disk_.Check(
      ext2fs_read_inode_full(disk_.fs(), inode, reinterpret_cast<ext2_inode*>(raw.data()),
                             static_cast<int>(raw.size())),
      absl::StrCat("read inode ", inode)));
  std::memcpy(&found, raw.data(), sizeof(found));
  FileState state;
  state.inode = inode;
  state.generation = found.i_generation;
  state.mode = found.i_mode;
  state.size_bytes = EXT2_I_SIZE(&found);
  // Where data lies in the inode itself (a short target, a device's number) it is in i_block.
  state.facts = absl::StrCat(
      inode_uid(found), " ", inode_gid(found), " ", found.i_mtime, " ", found.i_mtime_extra, " ",
      std::string(reinterpret_cast<const char*>(found.i_block), sizeof(found.i_block)));
  COWL_RETURN_IF_ERROR(AddRanges(inode, reinterpret_cast<ext2_inode&>(found), state));
  AddAttributes(found, raw, state);
  return state;
}

// Attributes in the inode, behind its fields; those in a block of their own are found by that.
void Reader::AddAttributes(const ext2_inode_large& found, std::span<const char> raw,
                           FileState& state) {
  const size_t begin = EXT2_GOOD_OLD_INODE_SIZE + found.i_extra_isize;
  if (EXT2_INODE_SIZE(disk_.fs()->super) > EXT2_GOOD_OLD_INODE_SIZE && begin < raw.size())
    state.facts.append(raw.data() + begin, raw.size() - begin);
  const blk64_t block =
      ext2fs_file_acl_block(disk_.fs(), reinterpret_cast<const ext2_inode*>(&found));
  if (block == 0 || block >= disk_.block_count()) return;
  const uint64_t at = block * disk_.block_bytes();
  state.ranges.push_back({at, at + disk_.block_bytes()});
  absl::StrAppend(&state.facts, " ", block);
}

struct BlockVisit {
  std::vector<ByteRange>* ranges;
  uint64_t block_bytes;
  uint64_t block_count;
  uint64_t* claimed_blocks;
  bool is_damaged = false;
};

int VisitBlock(ext2_filsys, blk64_t* block, e2_blkcnt_t, blk64_t, int, void* data) {
  auto& visit = *static_cast<BlockVisit*>(data);
  // Shared blocks are damage here; twice the disk is more than any sound file system claims.
  if (*block >= visit.block_count || ++*visit.claimed_blocks > 2 * visit.block_count) {
    visit.is_damaged = true;
    return BLOCK_ABORT;
  }
  const uint64_t at = *block * visit.block_bytes;
  if (!visit.ranges->empty() && visit.ranges->back().end == at) {
    visit.ranges->back().end += visit.block_bytes;
  } else {
    visit.ranges->push_back({at, at + visit.block_bytes});
  }
  return 0;
}

absl::Status Reader::AddRanges(ext2_ino_t inode, ext2_inode& found, FileState& state) {
  if (!ext2fs_inode_has_valid_blocks2(disk_.fs(), &found)) return absl::OkStatus();
  if ((found.i_flags & EXT4_INLINE_DATA_FL) != 0) return absl::OkStatus();
  BlockVisit visit{&state.ranges, disk_.block_bytes(), disk_.block_count(), &claimed_blocks_};
  const errcode_t code =
      ext2fs_block_iterate3(disk_.fs(), inode, BLOCK_FLAG_READ_ONLY, nullptr, VisitBlock, &visit);
  if (visit.is_damaged)
    return DataLoss("its ext4 is damaged: it claims blocks that the disk does not have");
  return disk_.Check(code, absl::StrCat("follow the blocks of inode ", inode));
}

}  // namespace

bool FileState::is_regular() const { return LINUX_S_ISREG(mode); }

absl::StatusOr<FileTree> ReadFiles(Ext4Disk& disk, const std::function<bool()>& goes_on) {
  return Reader(disk, goes_on).Run();
}

}  // namespace cowl
