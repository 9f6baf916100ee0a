#include "files/file_changes.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace cowl {
namespace {

class Comparison {
 public:
  Comparison(const FileTree& newer, const FileTree& older, const ByteRanges& changed)
      : newer_(newer), older_(older), changed_(changed) {
    for (const FileState& state : older.states) older_by_inode_.emplace(state.inode, &state);
  }

  FileChanges Run();

 private:
  bool IsModified(const FileState& now, const FileState& before) const;
  void AddChanges();
  uint64_t CopiedUp(const FileState& now);
  std::vector<Claim> ClaimsOf(const FileTree& tree);

  const FileTree& newer_;
  const FileTree& older_;
  const ByteRanges& changed_;
  std::unordered_map<uint32_t, const FileState*> older_by_inode_;
  std::unordered_set<uint32_t> copied_up_;
  std::map<std::string, FileChange> changes_;
  std::vector<std::string> claimants_;
};

bool Comparison::IsModified(const FileState& now, const FileState& before) const {
  if (!now.IsSameInode(before) || now.mode != before.mode || now.size_bytes != before.size_bytes ||
      now.facts != before.facts || now.ranges != before.ranges)
    return true;
  return std::ranges::any_of(now.ranges,
                             [&](const ByteRange& range) { return changed_.Intersects(range); });
}

// What a change of `now` makes overlayfs copy; the first time it is asked.
uint64_t Comparison::CopiedUp(const FileState& now) {
  const auto before = older_by_inode_.find(now.inode);
  if (before == older_by_inode_.end() || !before->second->is_regular() ||
      !before->second->IsSameInode(now) || !copied_up_.insert(now.inode).second)
    return 0;
  return before->second->size_bytes;
}

void Comparison::AddChanges() {
  for (const auto& [path, index] : newer_.paths) {
    const FileState& now = newer_.states[index];
    const auto before = older_.paths.find(path);
    if (before == older_.paths.end()) {
      changes_[path] = {path, FileChange::Kind::kAdded, 0, CopiedUp(now)};
    } else if (IsModified(now, older_.states[before->second])) {
      changes_[path] = {path, FileChange::Kind::kModified, 0, CopiedUp(now)};
    }
  }
  for (const auto& [path, index] : older_.paths) {
    if (!newer_.paths.contains(path)) changes_[path] = {path, FileChange::Kind::kDeleted, 0, 0};
  }
}

std::vector<Claim> Comparison::ClaimsOf(const FileTree& tree) {
  std::vector<Claim> claims;
  std::unordered_set<uint32_t> claimed;
  claimants_.clear();
  for (const auto& [path, index] : tree.paths) {
    if (!claimed.insert(index).second) continue;
    for (const ByteRange& range : tree.states[index].ranges) {
      if (!changed_.Intersects(range)) continue;
      claims.push_back({range, static_cast<uint32_t>(claimants_.size())});
    }
    claimants_.push_back(path);
  }
  return claims;
}

FileChanges Comparison::Run() {
  AddChanges();
  const auto give = [this](uint32_t owner, uint64_t bytes) {
    // A former owner whose path is still there, unchanged, cannot be: it lost a block.
    const std::string& path = claimants_[owner];
    changes_.try_emplace(path, FileChange{path, FileChange::Kind::kModified, 0, 0})
        .first->second.block_bytes += bytes;
  };
  const ByteRanges left = cowl::Share(changed_, ClaimsOf(newer_), give);
  const ByteRanges others = cowl::Share(left, ClaimsOf(older_), give);
  FileChanges result;
  result.other_bytes = others.length();
  for (auto& [path, change] : changes_) result.files.push_back(std::move(change));
  return result;
}

}  // namespace

FileChanges CompareFiles(const FileTree& newer, const FileTree& older, const ByteRanges& changed) {
  return Comparison(newer, older, changed).Run();
}

}  // namespace cowl
