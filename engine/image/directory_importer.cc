#include "image/directory_importer.h"

#include <fcntl.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "base/units.h"
#include "image/ext4_plan.h"
#include "image/ext4_tree_writer.h"
#include "image/tree.h"

namespace cowl {
namespace {

class DirectoryImporter : public Importer {
 public:
  DirectoryImporter(const std::string& name, UniqueFd root, Tree tree, const Ext4Needs& needs,
                    uint64_t size_bytes)
      : name_(name),
        root_(std::move(root)),
        tree_(std::move(tree)),
        needs_(needs),
        size_bytes_(size_bytes) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  absl::Status Pour(BlockSink& sink, const Progress& progress) override {
    const Ext4Layout layout = LayoutFor(needs_, size_bytes_);
    COWL_ASSIGN_OR_RETURN(std::unique_ptr<Ext4Volume> volume, Ext4Volume::Create(sink, layout));
    if (volume->free_blocks() < needs_.block_count) {
      return Internal(absl::StrCat("an ext4 of ", size_bytes_, " bytes has ", volume->free_blocks(),
                                   " blocks to give, ", needs_.block_count, " were reckoned with"));
    }
    Ext4TreeWriter writer(*volume, tree_, root_.get(), name_, progress);
    COWL_RETURN_IF_ERROR(writer.Write());
    return volume->Finish();
  }

 private:
  const std::string name_;
  const UniqueFd root_;
  const Tree tree_;
  const Ext4Needs needs_;
  const uint64_t size_bytes_;
};

absl::StatusOr<uint64_t> SizeFor(const ImportSourceOptions& options, const Ext4Needs& needs) {
  const uint64_t least = DiskBytesMin(needs);
  if (least > kDeviceBytesMax) {
    return InvalidArgument(
        absl::StrCat(options.name, " needs ", least, " bytes; a disk has at most 64 TiB"));
  }
  if (!options.size_bytes.has_value()) {
    return std::max(std::min(DefaultDiskBytes(needs), kDeviceBytesMax), options.size_bytes_min);
  }
  const uint64_t size_bytes = *options.size_bytes;
  if (size_bytes < least) {
    return InvalidArgument(absl::StrCat("--size ", size_bytes, " is too small for what is in ",
                                        options.name, "; give at least ", least));
  }
  if (size_bytes < options.size_bytes_min) {
    return InvalidArgument(absl::StrCat("--size ", size_bytes,
                                        " is less than the parent's; give at least ",
                                        options.size_bytes_min));
  }
  if (size_bytes % kSectorBytes != 0 || size_bytes > kDeviceBytesMax) {
    return InvalidArgument(absl::StrCat(
        "--size ", size_bytes, " is no size for a disk: multiples of 512, at most 64 TiB"));
  }
  return size_bytes;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Importer>> OpenDirectoryImporter(const ImportSourceOptions& options,
                                                                UniqueFd fd,
                                                                const Progress& progress) {
  COWL_ASSIGN_OR_RETURN(Tree tree, ScanTree(fd.get(), options.name, progress));
  const Ext4Needs needs = NeedsOf(tree);
  COWL_ASSIGN_OR_RETURN(const uint64_t size_bytes, SizeFor(options, needs));
  return std::make_unique<DirectoryImporter>(options.name, std::move(fd), std::move(tree), needs,
                                             size_bytes);
}

}  // namespace cowl
