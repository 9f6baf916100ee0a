#include "stack/stack.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/status.h"
#include "overlay/succession.h"

namespace cowl {

Stack::Stack(Loop& loop, Storage& storage, StackCatalog catalog)
    : loop_(loop),
      storage_(storage),
      catalog_(std::move(catalog)),
      files_(std::make_unique<DataFileCache>(storage)) {}

Stack::~Stack() { COWL_CHECK(device_ == nullptr); }

void Stack::SetCatalog(StackCatalog catalog) {
  catalog_ = std::move(catalog);
  if (on_catalog) on_catalog(catalog_);
}

Task<absl::Status> Stack::Open() {
  COWL_CO_RETURN_IF_ERROR(co_await Recover());
  COWL_CO_RETURN_IF_ERROR(co_await RemoveStrangers());
  co_return co_await OpenDevice();
}

// As the store: nothing of the successor is used, and nothing written to the old overlay, before it
// is decided and noted.
Task<absl::Status> Stack::Recover() {
  recovery_.clear();
  if (catalog_.pending.IsNil()) co_return absl::OkStatus();
  StackCatalog next = catalog_;
  next.pending = {};
  absl::StatusOr<Succession> decision =
      co_await DecideSuccession(loop_, storage_, catalog_.overlay, catalog_.pending);
  if (!decision.ok()) co_return decision.status();
  recovery_ = decision->roll_forward ? "rolled forward" : "dropped the successor";
  if (decision->roll_forward) {
    if (decision->old_is_layer) {
      std::string name = DataFileName(catalog_.overlay);
      COWL_CO_RETURN_IF_ERROR(co_await SettleSuperblock(storage_, std::move(name)));
    } else {
      absl::StatusOr<std::unique_ptr<Overlay>> old =
          co_await Overlay::Open(loop_, storage_, catalog_.overlay, OpenMode::kReadWrite,
                                 decision->old_journal_is_durable);
      if (!old.ok()) co_return old.status();
      const Uuid parent = catalog_.layers.empty() ? Uuid{} : catalog_.layers.front();
      COWL_CO_RETURN_IF_ERROR(
          co_await (*old)->SealToLayer(catalog_.size_bytes, parent, "recovered"));
    }
    next.layers.insert(next.layers.begin(), catalog_.overlay);
    absl::StatusOr<std::vector<std::string>> files = storage_.List("layers");
    if (!files.ok()) co_return files.status();
    const bool has_file = std::find(files->begin(), files->end(),
                                    DataFileName(catalog_.pending).substr(7)) != files->end();
    next.overlay = has_file ? catalog_.pending : Uuid{};  // none: it was a commit
  }
  SetCatalog(next);
  co_return absl::OkStatus();
}

Task<absl::StatusOr<Stack::Maps>> Stack::LoadMaps() {
  Maps maps;
  for (const Uuid& id : catalog_.layers) {
    absl::StatusOr<std::shared_ptr<const LayerMap>> map =
        co_await LoadLayerMap(storage_, DataFileName(id));
    if (!map.ok()) co_return map.status();
    maps.push_back(*std::move(map));
  }
  co_return maps;
}

Task<absl::StatusOr<std::shared_ptr<const ChainMap>>> Stack::LoadChain() {
  absl::StatusOr<Maps> maps = co_await LoadMaps();
  if (!maps.ok()) co_return maps.status();
  co_return MergeChain(*maps);
}

Task<absl::Status> Stack::OpenDevice() {
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = co_await LoadChain();
  if (!chain.ok()) co_return chain.status();
  std::unique_ptr<Overlay> overlay;
  if (!catalog_.overlay.IsNil()) {
    absl::StatusOr<std::unique_ptr<Overlay>> opened =
        co_await Overlay::Open(loop_, storage_, catalog_.overlay, OpenMode::kReadWrite, false);
    if (!opened.ok()) co_return opened.status();
    overlay = *std::move(opened);
  }
  CowDeviceOptions options;
  options.name = "device";
  options.size_bytes = catalog_.size_bytes;
  options.cap.blocks_max = cap_blocks;
  options.make_overlay = [this] { return MakeOverlay(); };
  device_ = std::make_unique<CowDevice>(*files_, *std::move(chain), std::move(overlay),
                                        std::move(options));
  co_return absl::OkStatus();
}

Task<absl::StatusOr<std::unique_ptr<Overlay>>> Stack::MakeOverlay() {
  const Uuid id = Uuid::Random();
  const Uuid parent = catalog_.layers.empty() ? Uuid{} : catalog_.layers.front();
  const Overlay::NewOptions options{id, parent, catalog_.size_bytes};
  absl::StatusOr<std::unique_ptr<Overlay>> made =
      co_await Overlay::Create(loop_, storage_, options);
  if (!made.ok()) co_return made.status();
  if (const absl::Status status = storage_.SyncDirectory("layers"); !status.ok()) co_return status;
  StackCatalog next = catalog_;
  next.overlay = id;
  SetCatalog(next);
  co_return made;
}

Task<absl::Status> Stack::Close() {
  const absl::Status status = co_await device_->Close();
  device_.reset();
  co_return status;
}

Task<absl::Status> Stack::Drop() {
  if (device_->has_overlay()) co_await device_->overlay()->EndBackground();
  COWL_CHECK(!device_->is_sealing());
  device_.reset();
  co_return absl::OkStatus();
}

void Stack::Abandon() {
  // Never destroyed, not at the end of the program either: what waits in them never ends.
  static auto& abandoned = *new std::vector<std::unique_ptr<CowDevice>>;
  static auto& caches = *new std::vector<std::unique_ptr<DataFileCache>>;
  abandoned.push_back(std::move(device_));
  caches.push_back(std::move(files_));
}

Task<absl::Status> Stack::Snapshot() {
  COWL_CO_RETURN_IF_ERROR(co_await BeginSnapshot());
  co_return co_await FinishSnapshot();
}

Task<absl::Status> Stack::BeginSnapshot() {
  const Uuid id = Uuid::Random();
  const Overlay::NewOptions options{id, catalog_.overlay, catalog_.size_bytes};
  absl::StatusOr<std::unique_ptr<Overlay>> successor =
      co_await Overlay::Create(loop_, storage_, options);
  if (!successor.ok()) co_return successor.status();
  COWL_CO_RETURN_IF_ERROR(storage_.SyncDirectory("layers"));
  StackCatalog next = catalog_;
  next.pending = id;
  SetCatalog(next);
  const absl::StatusOr<uint64_t> pause_us = co_await device_->SwitchOverlay(*std::move(successor));
  co_return pause_us.status();
}

Task<absl::Status> Stack::FinishSnapshot() {
  const Uuid parent = catalog_.layers.empty() ? Uuid{} : catalog_.layers.front();
  COWL_CO_RETURN_IF_ERROR(co_await device_->SealSwitched(parent, "snapshot"));
  StackCatalog next = catalog_;
  next.layers.insert(next.layers.begin(), catalog_.overlay);
  next.overlay = catalog_.pending;
  next.pending = {};
  SetCatalog(next);
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = co_await LoadChain();
  if (!chain.ok()) co_return chain.status();
  device_->InstallChain(*std::move(chain));
  co_return absl::OkStatus();
}

Task<absl::Status> Stack::Commit() {
  COWL_CO_RETURN_IF_ERROR(co_await Close());
  // A successor that has no file: recovery goes forward when the file is a layer already, and back
  // when it is not.
  StackCatalog next = catalog_;
  next.pending = Uuid::Random();
  SetCatalog(next);
  const Uuid parent = catalog_.layers.empty() ? Uuid{} : catalog_.layers.front();
  {
    absl::StatusOr<std::unique_ptr<Overlay>> overlay =
        co_await Overlay::Open(loop_, storage_, catalog_.overlay, OpenMode::kReadWrite, false);
    if (!overlay.ok()) co_return overlay.status();
    COWL_CO_RETURN_IF_ERROR(
        co_await (*overlay)->SealToLayer(catalog_.size_bytes, parent, "commit"));
  }
  next.layers.insert(next.layers.begin(), catalog_.overlay);
  next.overlay = {};
  next.pending = {};
  SetCatalog(next);
  co_return co_await OpenDevice();
}

Task<absl::Status> Stack::Reset() {
  COWL_CO_RETURN_IF_ERROR(co_await Close());
  const Uuid old = catalog_.overlay;
  StackCatalog next = catalog_;
  next.overlay = {};
  SetCatalog(next);
  if (!old.IsNil()) COWL_CO_RETURN_IF_ERROR(storage_.Remove(DataFileName(old)));
  co_return co_await OpenDevice();
}

Task<absl::Status> Stack::Resize(uint64_t size_bytes) {
  if (size_bytes < catalog_.size_bytes) {
    COWL_CO_RETURN_IF_ERROR(
        co_await device_->WriteZeroes(size_bytes, catalog_.size_bytes - size_bytes, {}));
    COWL_CO_RETURN_IF_ERROR(co_await device_->Flush());
  }
  StackCatalog next = catalog_;
  next.size_bytes = size_bytes;
  SetCatalog(next);
  device_->Resize(size_bytes);
  co_return absl::OkStatus();
}

Task<absl::Status> Stack::DeleteLayer(size_t index) {
  COWL_CHECK(index >= 1 && index < catalog_.layers.size());
  absl::StatusOr<Maps> maps = co_await LoadMaps();
  if (!maps.ok()) co_return maps.status();
  FileMap merged = MergeParentInto(*(*maps)[index - 1], *(*maps)[index]);
  const Uuid parent = index + 1 < catalog_.layers.size() ? catalog_.layers[index + 1] : Uuid{};
  std::string name = DataFileName(catalog_.layers[index - 1]);
  COWL_CO_RETURN_IF_ERROR(
      co_await RewriteMap(storage_, std::move(name), std::move(merged), parent));
  StackCatalog next = catalog_;
  next.layers.erase(next.layers.begin() + static_cast<ptrdiff_t>(index));
  SetCatalog(next);
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = co_await LoadChain();
  if (!chain.ok()) co_return chain.status();
  device_->ReplaceChain(*std::move(chain));
  co_return absl::OkStatus();
}

Task<absl::Status> Stack::DropHidden() {
  absl::StatusOr<Maps> maps = co_await LoadMaps();
  if (!maps.ok()) co_return maps.status();
  const FileMap& map = maps->front()->map;
  absl::StatusOr<BlockRanges> hidden = co_await device_->DurablyHiddenIn(map.extents);
  if (!hidden.ok()) co_return hidden.status();
  FileMap seen = WithoutRanges(map, *hidden);
  const Uuid parent = maps->front()->superblock.parent;
  std::string name = DataFileName(catalog_.layers.front());
  COWL_CO_RETURN_IF_ERROR(co_await RewriteMap(storage_, std::move(name), std::move(seen), parent));
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = co_await LoadChain();
  if (!chain.ok()) co_return chain.status();
  const std::weak_ptr<const ChainMap> old = device_->chain();
  device_->ReplaceChain(*std::move(chain));
  // Reads that use the old one must end before anything is punched.
  while (!old.expired()) co_await Sleep(loop_, std::chrono::milliseconds(1));
  co_return absl::OkStatus();
}

Task<absl::Status> Stack::Collapse() {
  absl::StatusOr<std::shared_ptr<const ChainMap>> chain = co_await LoadChain();
  if (!chain.ok()) co_return chain.status();
  NewLayer layer;
  layer.id = Uuid::Random();
  layer.size_bytes = catalog_.size_bytes;
  layer.created_by = "collapse";
  FileMap map = MapOfChain(**chain, layer.id);
  COWL_CO_RETURN_IF_ERROR(co_await WriteMapOnlyLayer(storage_, layer, std::move(map)));
  COWL_CO_RETURN_IF_ERROR(storage_.SyncDirectory("layers"));
  StackCatalog next = catalog_;
  next.layers = {layer.id};
  SetCatalog(next);
  chain = co_await LoadChain();
  if (!chain.ok()) co_return chain.status();
  device_->ReplaceChain(*std::move(chain));
  co_return absl::OkStatus();
}

namespace {

// What the maps name, by data file.
std::map<Uuid, BlockRanges> LiveRanges(const std::vector<std::shared_ptr<const LayerMap>>& maps) {
  std::map<Uuid, BlockRanges> live;
  for (const auto& map : maps) {
    for (const Extent& extent : map->map.extents.extents()) {
      if (!extent.is_data()) continue;
      live[map->map.files[extent.source()]].emplace_back(extent.physical(),
                                                         extent.physical() + extent.length());
    }
  }
  return live;
}

}  // namespace

Task<absl::Status> Stack::RemoveStrangers() {
  absl::StatusOr<Maps> maps = co_await LoadMaps();
  if (!maps.ok()) co_return maps.status();
  std::set<std::string> named;
  for (const auto& [id, ranges] : LiveRanges(*maps)) named.insert(DataFileName(id));
  for (const Uuid& id : catalog_.layers) named.insert(DataFileName(id));
  named.insert(DataFileName(catalog_.overlay));
  if (!catalog_.pending.IsNil()) named.insert(DataFileName(catalog_.pending));
  absl::StatusOr<std::vector<std::string>> found = storage_.List("layers");
  if (!found.ok()) co_return found.status();
  for (const std::string& name : *found) {
    if (!named.contains("layers/" + name))
      COWL_CO_RETURN_IF_ERROR(storage_.Remove("layers/" + name));
  }
  co_return absl::OkStatus();
}

Task<absl::StatusOr<uint64_t>> Stack::CollectGarbage() {
  if (const absl::Status status = co_await RemoveStrangers(); !status.ok()) co_return status;
  absl::StatusOr<Maps> maps = co_await LoadMaps();
  if (!maps.ok()) co_return maps.status();
  std::map<Uuid, BlockRanges> live = LiveRanges(*maps);
  for (const Uuid& id : catalog_.layers) live[id];
  uint64_t freed_bytes = 0;
  for (const auto& [id, ranges] : live) {
    std::string name = DataFileName(id);
    absl::StatusOr<uint64_t> freed = co_await PunchDead(storage_, std::move(name), ranges);
    if (!freed.ok()) co_return freed.status();
    freed_bytes += *freed;
  }
  co_return freed_bytes;
}

}  // namespace cowl
