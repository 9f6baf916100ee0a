#include "image/ext4_tree_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/units.h"
#include "image/copy.h"

namespace cowl {
namespace {

constexpr char kLostAndFound[] = "lost+found";
constexpr size_t kLostAndFoundBlocks = 4;
constexpr uint32_t kLinksMax = 65000;
// Logical blocks have 32 bits.
constexpr uint64_t kFileBytesMax = (uint64_t{1} << 32) * kBlockBytes - kBlockBytes;
constexpr uint32_t kFilesPerReport = 256;

uint8_t FileType(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return EXT2_FT_REG_FILE;
    case S_IFDIR:
      return EXT2_FT_DIR;
    case S_IFCHR:
      return EXT2_FT_CHRDEV;
    case S_IFBLK:
      return EXT2_FT_BLKDEV;
    case S_IFIFO:
      return EXT2_FT_FIFO;
    case S_IFSOCK:
      return EXT2_FT_SOCK;
    case S_IFLNK:
      return EXT2_FT_SYMLINK;
    default:
      return EXT2_FT_UNKNOWN;
  }
}

// ext4 keeps seconds in 32 bits with a sign, two more bits of them beside 30 bits of nanoseconds:
// 1901 to 2446.
struct Ext4Time {
  uint32_t seconds;
  uint32_t extra;
};

Ext4Time EncodeTime(int64_t seconds, uint32_t nanoseconds) {
  constexpr int64_t kFirst = -(int64_t{1} << 31);
  constexpr int64_t kLast = (int64_t{3} << 32) + (int64_t{1} << 31) - 1;
  seconds = std::clamp(seconds, kFirst, kLast);
  const int32_t low = static_cast<int32_t>(seconds);
  const uint32_t epoch = static_cast<uint32_t>((seconds - low) >> 32) & EXT4_EPOCH_MASK;
  return {static_cast<uint32_t>(low), nanoseconds << EXT4_EPOCH_BITS | epoch};
}

// Everything but the blocks.
Ext4Inode Describe(const TreeInode& inode) {
  Ext4Inode content;
  content.bytes = {};
  ext2_inode_large& fields = content.fields;
  fields.i_mode = static_cast<uint16_t>(inode.mode);
  fields.i_uid = static_cast<uint16_t>(inode.uid);
  fields.i_gid = static_cast<uint16_t>(inode.gid);
  ext2fs_set_i_uid_high(fields, inode.uid >> 16);
  ext2fs_set_i_gid_high(fields, inode.gid >> 16);
  fields.i_extra_isize = sizeof(ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE;
  const Ext4Time time = EncodeTime(inode.mtime_s, inode.mtime_ns);
  fields.i_atime = fields.i_ctime = fields.i_mtime = fields.i_crtime = time.seconds;
  fields.i_atime_extra = fields.i_ctime_extra = fields.i_mtime_extra = fields.i_crtime_extra =
      time.extra;
  fields.i_links_count = static_cast<uint16_t>(inode.links);
  return content;
}

void SetSize(Ext4Inode& content, uint64_t size_bytes) {
  content.fields.i_size = static_cast<uint32_t>(size_bytes);
  content.fields.i_size_high = static_cast<uint32_t>(size_bytes >> 32);
}

void SetDeviceNumber(Ext4Inode& content, uint32_t major, uint32_t minor) {
  // Two encodings: the small one where it will do, as the kernel writes them.
  if (major < 256 && minor < 256) {
    content.fields.i_block[0] = major << 8 | minor;
  } else {
    content.fields.i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
  }
}

}  // namespace

Ext4TreeWriter::Ext4TreeWriter(Ext4Volume& volume, const Tree& tree, int root,
                               const std::string& name, const Progress& progress)
    : volume_(volume),
      tree_(tree),
      root_(root),
      name_(name),
      progress_(progress),
      buffer_(kCopyRunBytes) {}

uint32_t Ext4TreeWriter::NumberOf(uint32_t index) const {
  if (index == 0) return kRootInode;
  return index == lost_and_found_ ? kLostAndFoundInode : kLostAndFoundInode + index;
}

absl::Status Ext4TreeWriter::Write() {
  const TreeInode& root = tree_.inodes[0];
  for (uint32_t i = root.entries_begin; i < root.entries_end; ++i) {
    if (tree_.entries[i].name != kLostAndFound) continue;
    lost_and_found_ = tree_.entries[i].inode;
    if (!S_ISDIR(tree_.inodes[lost_and_found_].mode)) {
      return InvalidArgument(
          absl::StrCat(NameOf(lost_and_found_), " must be a directory: ext4 needs it"));
    }
  }
  if (lost_and_found_ == 0) COWL_RETURN_IF_ERROR(WriteLostAndFound());
  for (const bool directories : {true, false}) {
    for (uint32_t index = 0; index < tree_.inodes.size(); ++index) {
      if (S_ISDIR(tree_.inodes[index].mode) != directories) continue;
      if (index % kFilesPerReport == 0)
        COWL_RETURN_IF_ERROR(Report(progress_, done_bytes_, tree_.data_bytes));
      COWL_RETURN_IF_ERROR(directories ? WriteDirectory(index) : WriteOther(index));
    }
  }
  return Report(progress_, tree_.data_bytes, tree_.data_bytes);
}

absl::Status Ext4TreeWriter::WriteInode(uint32_t index, Ext4Inode& content) {
  const uint32_t number = NumberOf(index);
  const TreeInode& inode = tree_.inodes[index];
  if (index != 0) volume_.TakeInode(number, S_ISDIR(inode.mode));
  COWL_RETURN_IF_ERROR(volume_.WriteInode(number, content));
  if (inode.xattrs.empty()) return absl::OkStatus();
  return Annotate(volume_.WriteXattrs(number, inode.xattrs), NameOf(index));
}

// Allocates and writes the blocks of a directory or a link.
absl::Status Ext4TreeWriter::StoreBlocks(uint32_t number, std::string bytes, Ext4Inode& content) {
  ExtentList extents;
  const std::span<std::byte> blocks = std::as_writable_bytes(std::span<char>(bytes));
  const uint64_t count = blocks.size() / kBlockBytes;
  for (uint64_t done = 0; done < count;) {
    COWL_ASSIGN_OR_RETURN(const BlockRun run, volume_.Allocate(count - done));
    COWL_RETURN_IF_ERROR(
        volume_.WriteData(run.begin, blocks.subspan(done * kBlockBytes, run.count * kBlockBytes)));
    extents.Add(done, run.begin, run.count);
    done += run.count;
  }
  return extents.Store(volume_, number, content);
}

absl::Status Ext4TreeWriter::WriteDirectory(uint32_t index) {
  const TreeInode& inode = tree_.inodes[index];
  const uint32_t number = NumberOf(index);
  std::vector<DirectoryRecord> records;
  records.reserve(inode.entries_end - inode.entries_begin + 1);
  for (uint32_t i = inode.entries_begin; i < inode.entries_end; ++i) {
    const TreeEntry& entry = tree_.entries[i];
    records.push_back(
        {entry.name, NumberOf(entry.inode), FileType(tree_.inodes[entry.inode].mode)});
  }
  uint32_t links = inode.links + 2;
  if (index == 0 && lost_and_found_ == 0) {
    records.push_back({kLostAndFound, kLostAndFoundInode, EXT2_FT_DIR});
    ++links;
  }
  Ext4Inode content = Describe(inode);
  content.fields.i_links_count = links > kLinksMax ? 1 : static_cast<uint16_t>(links);
  DirectoryBlocks blocks =
      BuildDirectory(number, NumberOf(inode.parent), records, volume_.hash_seed());
  if (blocks.indexed) content.fields.i_flags |= EXT2_INDEX_FL;
  SetSize(content, blocks.bytes.size());
  COWL_RETURN_IF_ERROR(
      volume_.SignDirectory(number, std::as_writable_bytes(std::span<char>(blocks.bytes))));
  COWL_RETURN_IF_ERROR(StoreBlocks(number, std::move(blocks.bytes), content));
  return WriteInode(index, content);
}

absl::Status Ext4TreeWriter::WriteLostAndFound() {
  TreeInode inode;
  inode.mode = S_IFDIR | 0700;
  inode.links = 2;
  inode.mtime_s = tree_.inodes[0].mtime_s;
  inode.mtime_ns = tree_.inodes[0].mtime_ns;
  Ext4Inode content = Describe(inode);
  std::string bytes = BuildEmptyDirectory(kLostAndFoundInode, kRootInode, kLostAndFoundBlocks);
  SetSize(content, bytes.size());
  COWL_RETURN_IF_ERROR(
      volume_.SignDirectory(kLostAndFoundInode, std::as_writable_bytes(std::span<char>(bytes))));
  COWL_RETURN_IF_ERROR(StoreBlocks(kLostAndFoundInode, std::move(bytes), content));
  volume_.TakeInode(kLostAndFoundInode, true);
  return volume_.WriteInode(kLostAndFoundInode, content);
}

absl::Status Ext4TreeWriter::WriteOther(uint32_t index) {
  const TreeInode& inode = tree_.inodes[index];
  const uint32_t number = NumberOf(index);
  if (inode.links > kLinksMax) {
    return InvalidArgument(
        absl::StrCat(NameOf(index), " has ", inode.links, " names; ext4 takes ", kLinksMax));
  }
  Ext4Inode content = Describe(inode);
  if (S_ISREG(inode.mode)) {
    ExtentList extents;
    SetSize(content, inode.size_bytes);
    if (inode.size_bytes > 0) COWL_RETURN_IF_ERROR(WriteContents(index, extents));
    COWL_RETURN_IF_ERROR(extents.Store(volume_, number, content));
  } else if (S_ISLNK(inode.mode)) {
    const std::string& target = inode.link_target;
    SetSize(content, target.size());
    if (target.size() < sizeof(content.fields.i_block)) {
      std::memcpy(content.fields.i_block, target.data(), target.size());
    } else {
      std::string block = target;
      block.resize(kBlockBytes, '\0');
      COWL_RETURN_IF_ERROR(StoreBlocks(number, std::move(block), content));
    }
  } else if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
    SetDeviceNumber(content, inode.rdev_major, inode.rdev_minor);
  }
  return WriteInode(index, content);
}

absl::Status Ext4TreeWriter::CutShort(uint32_t index, uint64_t at_bytes) const {
  return DataLoss(absl::StrCat(
      NameOf(index), " changed while it was imported: ", tree_.inodes[index].size_bytes,
      " bytes were listed, it ends at ", at_bytes, "; import it again when nothing changes it"));
}

absl::Status Ext4TreeWriter::WriteContents(uint32_t index, ExtentList& extents) {
  const TreeInode& inode = tree_.inodes[index];
  if (inode.size_bytes > kFileBytesMax) {
    return InvalidArgument(absl::StrCat(NameOf(index), " is ", inode.size_bytes,
                                        " bytes long; a file on ext4 has at most 16 TiB"));
  }
  COWL_ASSIGN_OR_RETURN(const UniqueFd fd, OpenBelow(root_, name_, tree_.PathOf(index), O_RDONLY));
  struct stat st;
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, "stat", NameOf(index));
  if (!S_ISREG(st.st_mode)) {
    return DataLoss(
        absl::StrCat(NameOf(index), " was replaced while it was imported; import it again"));
  }
  const uint64_t size = inode.size_bytes;
  if (static_cast<uint64_t>(st.st_size) < size)
    return CutShort(index, static_cast<uint64_t>(st.st_size));
  posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  const bool sparse = static_cast<uint64_t>(st.st_blocks) * 512 < size;
  uint64_t offset = 0;
  while (offset < size) {
    uint64_t end = size;
    if (sparse) {
      const off_t data = lseek(fd.get(), static_cast<off_t>(offset), SEEK_DATA);
      if (data < 0 && errno == ENXIO) break;
      if (data > static_cast<off_t>(offset))
        offset = BlockOffsetBytes(BlocksFloor(static_cast<uint64_t>(data)));
      const off_t hole = lseek(fd.get(), std::max(data, static_cast<off_t>(offset)), SEEK_HOLE);
      if (hole > static_cast<off_t>(offset))
        end = std::min(size, RoundUp(static_cast<uint64_t>(hole), kBlockBytes));
    }
    end = std::min(end, offset + kCopyRunBytes);
    if (offset >= size) break;
    COWL_RETURN_IF_ERROR(WritePart(fd.get(), index, offset, end, extents));
    done_bytes_ += end - offset;
    offset = end;
    COWL_RETURN_IF_ERROR(
        Report(progress_, std::min(done_bytes_, tree_.data_bytes), tree_.data_bytes));
  }
  if (fstat(fd.get(), &st) != 0) return ErrnoStatus(errno, "stat", NameOf(index));
  return static_cast<uint64_t>(st.st_size) < size
             ? CutShort(index, static_cast<uint64_t>(st.st_size))
             : absl::OkStatus();
}

absl::Status Ext4TreeWriter::WritePart(int fd, uint32_t index, uint64_t offset_bytes,
                                       uint64_t end_bytes, ExtentList& extents) {
  const uint64_t length = end_bytes - offset_bytes;
  for (uint64_t done = 0; done < length;) {
    const ssize_t got =
        pread(fd, buffer_.data() + done, length - done, static_cast<off_t>(offset_bytes + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(errno, "read", NameOf(index));
    if (got == 0) return CutShort(index, offset_bytes + done);
    done += static_cast<uint64_t>(got);
  }
  const uint64_t padded = RoundUp(length, kBlockBytes);
  std::memset(buffer_.data() + length, 0, padded - length);
  const std::span<const std::byte> part(buffer_.data(), padded);
  const uint64_t first = BlocksFloor(offset_bytes);
  uint64_t begin = 0;  // bytes [begin, at) of the part are data that is not written yet
  for (uint64_t at = 0; at <= padded; at += kBlockBytes) {
    if (at < padded && !IsZero(part.subspan(at, kBlockBytes))) continue;
    COWL_RETURN_IF_ERROR(
        WriteRun(first + BlocksFloor(begin), part.subspan(begin, at - begin), extents));
    begin = at + kBlockBytes;
  }
  return absl::OkStatus();
}

absl::Status Ext4TreeWriter::WriteRun(uint64_t logical, std::span<const std::byte> run,
                                      ExtentList& extents) {
  while (!run.empty()) {
    COWL_ASSIGN_OR_RETURN(const BlockRun place, volume_.Allocate(run.size() / kBlockBytes));
    const uint64_t length = place.count * kBlockBytes;
    COWL_RETURN_IF_ERROR(volume_.WriteData(place.begin, run.first(length)));
    extents.Add(logical, place.begin, place.count);
    logical += place.count;
    run = run.subspan(length);
  }
  return absl::OkStatus();
}

}  // namespace cowl
