// frozen_source.h: the layers of a FrozenView, read without the store: a source, with the loop and
// thread it reads on. Threads: as BlockSource; makes a thread of its own. Errors: as
// OpenFrozenChain. Ownership: keeps the layer files open.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "cowl/store.h"
#include "image/block_source.h"

namespace cowl {

// A view without layers is a disk of zeros.
absl::StatusOr<std::unique_ptr<BlockSource>> OpenFrozenView(const FrozenView& view);

// "/a/b" for "/a/b/c". For a bare name ".".
std::string FolderOf(const std::string& path);
// "c" for "/a/b/c".
std::string NameIn(const std::string& path);

}  // namespace cowl
