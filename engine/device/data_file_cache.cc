#include "device/data_file_cache.h"

#include "layer/layer.h"

namespace cowl {

Task<absl::StatusOr<std::shared_ptr<DataFile>>> DataFileCache::Get(Uuid id) {
  if (const auto found = files_.find(id); found != files_.end()) {
    if (std::shared_ptr<DataFile> open = found->second.lock()) co_return open;
  }
  std::string name = DataFileName(id);
  absl::StatusOr<std::shared_ptr<DataFile>> opened =
      co_await DataFile::Open(storage_, std::move(name));
  // Two that asked at once both opened it; the later one is kept, the other lives as long as its
  // user.
  if (opened.ok()) files_[id] = *opened;
  co_return opened;
}

}  // namespace cowl
