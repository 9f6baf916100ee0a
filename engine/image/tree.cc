#include "image/tree.h"

#include <fcntl.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {

std::string Tree::PathOf(uint32_t inode) const {
  if (inode == 0) return ".";
  std::vector<const std::string*> names;
  size_t length = 0;
  for (uint32_t at = inode; at != 0; at = inodes[at].parent) {
    names.push_back(&entries[inodes[at].entry].name);
    length += names.back()->size() + 1;
  }
  std::string path;
  path.reserve(length);
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (!path.empty()) path += '/';
    path += **name;
  }
  return path;
}

absl::StatusOr<UniqueFd> OpenBelow(int root, const std::string& name, const std::string& path,
                                   int flags) {
  // A path longer than the kernel takes is walked in pieces. Only the last part is guarded by
  // O_NOFOLLOW; a directory that somebody swaps for a link between the listing and here is noticed
  // by the comparison of what was opened with the listing.
  constexpr size_t kPieceMax = 4000;
  UniqueFd at;
  size_t begin = 0;
  while (path.size() - begin > kPieceMax) {
    const size_t slash = path.rfind('/', begin + kPieceMax);
    const std::string piece = path.substr(begin, slash - begin);
    const int from = at.valid() ? at.get() : root;
    UniqueFd next(openat(from, piece.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!next.valid()) return ErrnoStatus(errno, "open", absl::StrCat(name, "/", path));
    at = std::move(next);
    begin = slash + 1;
  }
  const int from = at.valid() ? at.get() : root;
  UniqueFd fd(
      openat(from, path.c_str() + begin, flags | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(errno, "open", absl::StrCat(name, "/", path));
  return fd;
}

}  // namespace cowl
