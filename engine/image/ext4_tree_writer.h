// ext4_tree_writer.h: pours a tree into a new ext4: first all directories, side by side, then the
// files in the tree's order. Threads: one. Errors: name the file, below the name of the source.
#pragma once

#include <string>
#include <vector>

#include "image/ext4_extents.h"
#include "image/ext4_volume.h"
#include "image/tree.h"

namespace cowl {

class Ext4TreeWriter {
 public:
  // All must outlive it. `root` is the open directory that `tree` was read from.
  Ext4TreeWriter(Ext4Volume& volume, const Tree& tree, int root, const std::string& name,
                 const Progress& progress);

  // Everything but Finish of the volume. Once.
  absl::Status Write();

 private:
  // The inode's number in the ext4.
  uint32_t NumberOf(uint32_t index) const;
  absl::Status WriteDirectory(uint32_t index);
  absl::Status WriteLostAndFound();
  absl::Status WriteOther(uint32_t index);
  absl::Status WriteContents(uint32_t index, ExtentList& extents);
  // One read's worth, at most: from `offset` up to `end` of the file.
  absl::Status WritePart(int fd, uint32_t index, uint64_t offset_bytes, uint64_t end_bytes,
                         ExtentList& extents);
  absl::Status WriteRun(uint64_t logical, std::span<const std::byte> run, ExtentList& extents);
  absl::Status StoreBlocks(uint32_t number, std::string bytes, Ext4Inode& content);
  absl::Status WriteInode(uint32_t index, Ext4Inode& content);
  absl::Status CutShort(uint32_t index, uint64_t at_bytes) const;
  std::string NameOf(uint32_t index) const { return name_ + "/" + tree_.PathOf(index); }

  Ext4Volume& volume_;
  const Tree& tree_;
  const int root_;
  const std::string& name_;
  const Progress& progress_;
  uint32_t lost_and_found_ = 0;  // index of the tree's own; 0: it has none
  uint64_t done_bytes_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace cowl
