// stack.h: a chain of layers with one device on top, and what a store does with them: the least of
// a store that the property and crash tests need, so that they reach every state of the engine
// without a catalog on the disk. The catalog is a value; whoever tests crashes hears of each change
// (on_catalog) and hands back what was durable. Units: bytes; layers are counted from the top.
// Threads: tasks run on the loop. Ownership: loop and storage outlive the stack; a stack whose
// device is open must be closed or dropped before it goes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "device/cow_device.h"
#include "layer/layer.h"
#include "overlay/overlay.h"

namespace cowl {

struct StackCatalog {
  uint64_t size_bytes = 0;
  std::vector<Uuid> layers;  // top first
  Uuid overlay;              // nil: never written
  Uuid pending;              // a snapshot under way: the successor
};

class Stack {
 public:
  Stack(Loop& loop, Storage& storage, StackCatalog catalog);
  ~Stack();

  // Called with each new state of the catalog, which is durable then.
  std::function<void(const StackCatalog&)> on_catalog;
  uint64_t cap_blocks = 0;  // for the next Open

  // Recovers an interrupted snapshot, removes files that nobody names, opens the device.
  Task<absl::Status> Open();
  Task<absl::Status> Close();
  // Lets go of the device without closing it, as a process that is killed; nothing may be in
  // flight.
  Task<absl::Status> Drop();
  // Forgets the device where it stands, requests in flight and all; it is never destroyed.
  void Abandon();

  Task<absl::Status> Snapshot();
  // The two halves of it: requests go to the successor after the first.
  Task<absl::Status> BeginSnapshot();
  Task<absl::Status> FinishSnapshot();
  // Closes the device, turns the overlay into a layer and opens the device again.
  Task<absl::Status> Commit();
  Task<absl::Status> Reset();
  Task<absl::Status> Resize(uint64_t size_bytes);  // shrinking zeroes what goes
  // Merges the map of layer `index` into that of the layer above, index >= 1, and forgets it.
  Task<absl::Status> DeleteLayer(size_t index);
  // Takes out of the top layer what the overlay hides; the layer alone no longer reads as it did.
  Task<absl::Status> DropHidden();
  // One map-only layer in the place of all.
  Task<absl::Status> Collapse();
  // Removes files that nobody names and punches what no map names. Returns the bytes that punching
  // freed.
  Task<absl::StatusOr<uint64_t>> CollectGarbage();

  CowDevice& device() { return *device_; }
  bool is_open() const { return device_ != nullptr; }
  const StackCatalog& catalog() const { return catalog_; }
  Loop& loop() { return loop_; }
  Storage& storage() { return storage_; }
  // What recovery decided at the last Open, for failure messages.
  const std::string& recovery() const { return recovery_; }

 private:
  using Maps = std::vector<std::shared_ptr<const LayerMap>>;

  Task<absl::Status> Recover();
  Task<absl::Status> OpenDevice();
  Task<absl::StatusOr<std::unique_ptr<Overlay>>> MakeOverlay();
  Task<absl::StatusOr<Maps>> LoadMaps();
  Task<absl::StatusOr<std::shared_ptr<const ChainMap>>> LoadChain();
  Task<absl::Status> RemoveStrangers();
  void SetCatalog(StackCatalog catalog);

  Loop& loop_;
  Storage& storage_;
  StackCatalog catalog_;
  std::unique_ptr<DataFileCache> files_;
  std::unique_ptr<CowDevice> device_;
  std::string recovery_;
};

}  // namespace cowl
