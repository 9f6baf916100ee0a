#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/limits.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "image/copy.h"
#include "image/tree.h"

namespace cowl {
namespace {

constexpr uint32_t kEntriesPerReport = 4096;
constexpr unsigned kStatxMask = STATX_BASIC_STATS | STATX_MNT_ID;

struct CloseDir {
  void operator()(DIR* directory) const { closedir(directory); }
};

struct FileId {
  uint64_t device;
  uint64_t inode;
  bool operator==(const FileId&) const = default;
};

struct FileIdHash {
  size_t operator()(const FileId& id) const { return id.inode * 0x9e3779b97f4a7c15u ^ id.device; }
};

uint64_t DeviceOf(const struct statx& st) { return makedev(st.stx_dev_major, st.stx_dev_minor); }

// The attributes ext4 can hold. Others belong to the file system they are on (btrfs.compression,
// system.nfs4_acl).
bool IsPortable(std::string_view xattr) {
  return xattr.starts_with("user.") || xattr.starts_with("trusted.") ||
         xattr.starts_with("security.") || xattr == "system.posix_acl_access" ||
         xattr == "system.posix_acl_default";
}

class Scanner {
 public:
  Scanner(int root, const std::string& name, const Progress& progress)
      : root_(root), name_(name), progress_(progress) {}

  absl::StatusOr<Tree> Run();

 private:
  absl::Status ScanDirectory(uint32_t directory);
  absl::StatusOr<std::vector<std::string>> ListNames(int fd, const std::string& path);
  absl::Status AddEntry(int fd, uint32_t directory, const std::string& path,
                        std::string entry_name);
  // What is specific to a kind of file.
  absl::Status Describe(int fd, const std::string& entry_name, const std::string& path,
                        const struct statx& st, TreeInode& inode);
  absl::Status DescribeRegular(int fd, const std::string& entry_name, const std::string& path,
                               const struct statx& st, TreeInode& inode);
  absl::Status ReadXattrs(int fd, const std::string& entry_name, const std::string& path,
                          TreeInode& inode);
  bool IsElsewhere(const struct statx& st) const;
  absl::Status Failed(int error_number, std::string_view operation, const std::string& path) const {
    return ErrnoStatus(error_number, operation, absl::StrCat(name_, "/", path));
  }

  const int root_;
  const std::string& name_;
  const Progress& progress_;
  uint64_t root_device_ = 0;
  uint64_t root_mount_ = 0;  // 0: a kernel that does not tell
  const bool has_proc_ = access("/proc/self/fd", X_OK) == 0;
  std::string xattr_buffer_ = std::string(XATTR_SIZE_MAX, '\0');
  Tree tree_;
  std::vector<uint32_t> to_scan_;                            // directories, the next one last
  std::unordered_map<FileId, uint32_t, FileIdHash> linked_;  // files with more than one name
};

// Attributes common to all kinds.
TreeInode CommonPart(const struct statx& st) {
  TreeInode inode;
  inode.mode = st.stx_mode;
  inode.uid = st.stx_uid;
  inode.gid = st.stx_gid;
  inode.mtime_s = st.stx_mtime.tv_sec;
  inode.mtime_ns = st.stx_mtime.tv_nsec;
  return inode;
}

bool Scanner::IsElsewhere(const struct statx& st) const {
  if (root_mount_ != 0 && st.stx_mnt_id != root_mount_) return true;
  // Files of one overlayfs may have device numbers of their own; directories have the mount's.
  return S_ISDIR(st.stx_mode) && DeviceOf(st) != root_device_;
}

absl::StatusOr<Tree> Scanner::Run() {
  struct statx st;
  if (statx(root_, "", AT_EMPTY_PATH, kStatxMask, &st) != 0) return Failed(errno, "stat", ".");
  root_device_ = DeviceOf(st);
  if (st.stx_mask & STATX_MNT_ID) root_mount_ = st.stx_mnt_id;
  tree_.inodes.push_back(CommonPart(st));
  COWL_RETURN_IF_ERROR(ReadXattrs(root_, ".", ".", tree_.inodes[0]));
  to_scan_.push_back(0);
  while (!to_scan_.empty()) {
    const uint32_t directory = to_scan_.back();
    to_scan_.pop_back();
    COWL_RETURN_IF_ERROR(ScanDirectory(directory));
  }
  return std::move(tree_);
}

absl::StatusOr<std::vector<std::string>> Scanner::ListNames(int fd, const std::string& path) {
  // readdir moves the descriptor's position, so it gets one of its own.
  const int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return Failed(errno, "open", path);
  std::unique_ptr<DIR, CloseDir> directory(fdopendir(own));
  if (directory == nullptr) return Failed(errno, "list", path);
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = readdir(directory.get());
    if (entry == nullptr) break;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  if (errno != 0) return Failed(errno, "list", path);
  std::ranges::sort(names);
  return names;
}

absl::Status Scanner::ScanDirectory(uint32_t directory) {
  const std::string path = tree_.PathOf(directory);
  UniqueFd opened;
  if (directory != 0) {
    COWL_ASSIGN_OR_RETURN(opened, OpenBelow(root_, name_, path, O_RDONLY | O_DIRECTORY));
  }
  const int fd = directory == 0 ? root_ : opened.get();
  COWL_ASSIGN_OR_RETURN(std::vector<std::string> names, ListNames(fd, path));
  tree_.inodes[directory].entries_begin = static_cast<uint32_t>(tree_.entries.size());
  const size_t first_new = tree_.inodes.size();
  for (std::string& name : names) {
    if (tree_.entries.size() % kEntriesPerReport == 0)
      COWL_RETURN_IF_ERROR(Report(progress_, 0, 0));
    const std::string entry_path = directory == 0 ? name : absl::StrCat(path, "/", name);
    COWL_RETURN_IF_ERROR(AddEntry(fd, directory, entry_path, std::move(name)));
  }
  tree_.inodes[directory].entries_end = static_cast<uint32_t>(tree_.entries.size());
  // Depth first: the last on the stack is the first by name.
  for (size_t i = tree_.inodes.size(); i-- > first_new;) {
    const TreeInode& inode = tree_.inodes[i];
    if (S_ISDIR(inode.mode) && !inode.mounted_over) to_scan_.push_back(static_cast<uint32_t>(i));
  }
  return absl::OkStatus();
}

absl::Status Scanner::AddEntry(int fd, uint32_t directory, const std::string& path,
                               std::string entry_name) {
  struct statx st;
  if (statx(fd, entry_name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, kStatxMask, &st) != 0) {
    return Failed(errno, "stat", path);
  }
  const bool is_directory = S_ISDIR(st.stx_mode);
  const FileId id{DeviceOf(st), st.stx_ino};
  if (!is_directory && st.stx_nlink > 1) {
    if (const auto known = linked_.find(id); known != linked_.end()) {
      ++tree_.inodes[known->second].links;
      tree_.entries.push_back({std::move(entry_name), known->second});
      return absl::OkStatus();
    }
  }
  TreeInode inode = CommonPart(st);
  inode.parent = directory;
  inode.entry = static_cast<uint32_t>(tree_.entries.size());
  const uint32_t index = static_cast<uint32_t>(tree_.inodes.size());
  inode.mounted_over = IsElsewhere(st);
  COWL_RETURN_IF_ERROR(Describe(fd, entry_name, path, st, inode));
  if (!inode.mounted_over) COWL_RETURN_IF_ERROR(ReadXattrs(fd, entry_name, path, inode));
  if (is_directory) {
    ++tree_.inodes[directory].links;
  } else {
    inode.links = 1;
    if (st.stx_nlink > 1) linked_.emplace(id, index);
  }
  tree_.data_bytes += inode.data_blocks_max * kBlockBytes;
  tree_.entries.push_back({std::move(entry_name), index});
  tree_.inodes.push_back(std::move(inode));
  return absl::OkStatus();
}

absl::Status Scanner::Describe(int fd, const std::string& entry_name, const std::string& path,
                               const struct statx& st, TreeInode& inode) {
  switch (st.stx_mode & S_IFMT) {
    case S_IFREG:
      return DescribeRegular(fd, entry_name, path, st, inode);
    case S_IFLNK: {
      inode.link_target.resize(PATH_MAX);
      const ssize_t length = readlinkat(fd, entry_name.c_str(), inode.link_target.data(), PATH_MAX);
      if (length < 0) return Failed(errno, "read the link", path);
      inode.link_target.resize(static_cast<size_t>(length));
      inode.link_target.shrink_to_fit();
      return absl::OkStatus();
    }
    case S_IFCHR:
    case S_IFBLK:
      inode.rdev_major = st.stx_rdev_major;
      inode.rdev_minor = st.stx_rdev_minor;
      return absl::OkStatus();
    default:
      return absl::OkStatus();
  }
}

// Counts the blocks and runs of data between a file's holes.
absl::Status MeasureHoles(int fd, TreeInode& inode) {
  const off_t size = static_cast<off_t>(inode.size_bytes);
  uint64_t last_block = ~uint64_t{0};
  for (off_t at = 0; at < size;) {
    const off_t data = lseek(fd, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    const off_t hole = data < 0 ? size : std::min(size, lseek(fd, data, SEEK_HOLE));
    const uint64_t begin = BlocksFloor(static_cast<uint64_t>(std::max(at, data)));
    const uint64_t end = BlocksCeil(static_cast<uint64_t>(std::max(hole, at + 1)));
    inode.data_blocks_max += end - begin - (begin == last_block ? 1 : 0);
    ++inode.data_runs;
    last_block = end - 1;
    at = std::max(hole, at + 1);
  }
  return absl::OkStatus();
}

absl::Status Scanner::DescribeRegular(int fd, const std::string& entry_name,
                                      const std::string& path, const struct statx& st,
                                      TreeInode& inode) {
  if (!inode.mounted_over) inode.size_bytes = st.stx_size;
  if (inode.size_bytes == 0) return absl::OkStatus();
  // Asked now, not after an hour of copying. Root is told yes without a look at the mode.
  if (faccessat(fd, entry_name.c_str(), R_OK, AT_EACCESS) != 0) return Failed(errno, "read", path);
  if (st.stx_blocks * 512 >= inode.size_bytes) {
    inode.data_blocks_max = BlocksCeil(inode.size_bytes);
    inode.data_runs = 1;
    return absl::OkStatus();
  }
  UniqueFd file(openat(fd, entry_name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return Failed(errno, "open", path);
  return MeasureHoles(file.get(), inode);
}

absl::Status Scanner::ReadXattrs(int fd, const std::string& entry_name, const std::string& path,
                                 TreeInode& inode) {
  // There is no lgetxattrat; through /proc the directory's descriptor serves as one.
  const std::string full = has_proc_ ? absl::StrCat("/proc/self/fd/", fd, "/", entry_name)
                                     : absl::StrCat(name_, "/", path);
  char few[1024];
  std::string names(few, sizeof(few));
  ssize_t length = llistxattr(full.c_str(), few, sizeof(few));
  if (length < 0 && errno == ERANGE) {
    names.resize(XATTR_LIST_MAX);
    length = llistxattr(full.c_str(), names.data(), names.size());
  } else if (length > 0) {
    names.assign(few, static_cast<size_t>(length));
  }
  if (length < 0)
    return errno == EOPNOTSUPP ? absl::OkStatus() : Failed(errno, "list the attributes of", path);
  for (const char* at = names.data(); at < names.data() + length; at += std::strlen(at) + 1) {
    if (!IsPortable(at)) continue;
    const ssize_t size = lgetxattr(full.c_str(), at, xattr_buffer_.data(), xattr_buffer_.size());
    if (size < 0) return Failed(errno, absl::StrCat("read the attribute ", at, " of"), path);
    inode.xattrs.push_back({at, xattr_buffer_.substr(0, static_cast<size_t>(size))});
  }
  std::ranges::sort(inode.xattrs, {}, &Xattr::name);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Tree> ScanTree(int root, const std::string& name, const Progress& progress) {
  return Scanner(root, name, progress).Run();
}

}  // namespace cowl
