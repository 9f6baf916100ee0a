// cow_device.h: an overlay on a chain of layers, seen as a disk; without an overlay, an image,
// read-only. Reading is in cow_device.cc, writing and the cap in cow_device_write.cc, what the
// store calls in cow_device_control.cc. A read looks blocks up in the overlay and then, with one
// search, in the chain's merged map: its cost does not depend on depth. Units, errors, durability:
// as BlockDevice. Threads: one loop, all of it, also the control calls below. Ownership: owns its
// overlays; the data file cache outlives it.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "base/units.h"
#include "device/block_device.h"
#include "device/data_file_cache.h"
#include "device/range_lock.h"
#include "device/traffic.h"
#include "io/loop.h"
#include "layer/layer.h"
#include "overlay/overlay.h"

namespace cowl {

// How much a device may store.
struct DeviceCap {
  uint64_t blocks_max = 0;  // of data; 0: no bound
  // Layers of the chain that nobody else names, left below the device by clones and exports: what
  // it still sees of them counts as stored.
  std::vector<Uuid> own_layers;

  bool operator==(const DeviceCap&) const = default;
};

struct CowDeviceOptions {
  std::string name;  // for error messages
  uint64_t size_bytes = 0;
  bool read_only = false;
  DeviceCap cap;
  // Makes the overlay at the first write, durably, known to the catalog. Runs on the loop. Not set:
  // read_only.
  std::function<Task<absl::StatusOr<std::unique_ptr<Overlay>>>()> make_overlay;
  // Makes a little room on a full disk, for what frees more of it. Not set: there is none.
  std::function<Task<void>()> make_room;
};

class CowDevice : public BlockDevice {
 public:
  // `chain` null: nothing below. `overlay` null: never written, or an image.
  CowDevice(DataFileCache& files, std::shared_ptr<const ChainMap> chain,
            std::unique_ptr<Overlay> overlay, CowDeviceOptions options);
  ~CowDevice() override;

  uint64_t size_bytes() const override { return options_.size_bytes; }
  bool read_only() const override { return options_.read_only; }
  void ExpectReads(std::span<const uint64_t> offsets_bytes) const override;
  Task<absl::Status> Read(uint64_t offset_bytes, std::span<std::byte> into) override;
  Task<absl::Status> Write(uint64_t offset_bytes, std::span<const std::byte> from,
                           WriteOptions options) override;
  Task<absl::Status> Flush() override;
  Task<absl::Status> Discard(uint64_t offset_bytes, uint64_t length_bytes,
                             WriteOptions options) override;
  Task<absl::Status> WriteZeroes(uint64_t offset_bytes, uint64_t length_bytes,
                                 ZeroOptions options) override;
  Task<absl::Status> Prefetch(uint64_t offset_bytes, uint64_t length_bytes) override;
  absl::StatusOr<std::vector<MapExtent>> Map(uint64_t offset_bytes, uint64_t length_bytes,
                                             size_t extents_max) override;

  // --- Control: what the store calls, one at a time for a device.

  // Waits for the requests in flight and closes the overlay in order (checkpointed, clean). Only
  // the destructor may follow.
  Task<absl::Status> Close();

  // Snapshot, first half: the present overlay is sealed and `successor` (made by Overlay::Create,
  // noted as pending) takes its place. Requests are held while those in flight end and two records
  // are written; no sync, no map work. Returns how long they were held. On an error the device goes
  // on as before. REQUIRES: has_overlay(), !is_sealing().
  Task<absl::StatusOr<uint64_t>> SwitchOverlay(std::unique_ptr<Overlay> successor);
  // Second half, while requests go on: the sealed overlay becomes a layer file, durably.
  Task<absl::Status> SealSwitched(Uuid parent, std::string created_by);
  // The sealed overlay is now the top layer of `chain`, durably: reads go through the merged map
  // from here on.
  void InstallChain(std::shared_ptr<const ChainMap> chain);

  // Replaces the chain by one with the same content (a layer below was merged away).
  void ReplaceChain(std::shared_ptr<const ChainMap> chain);
  // Opens every data file of the chain now, so that the device stays readable when they are
  // removed.
  Task<absl::Status> OpenChainFiles();

  // Shrinking: the caller has discarded what lies beyond.
  void Resize(uint64_t size_bytes) { options_.size_bytes = size_bytes; }
  void SetCap(DeviceCap cap);

  // Data blocks of `layer`, the top one of the chain, that the overlay hides; and the same when
  // that has become durable: as long as there is this overlay, nobody reads them any more.
  BlockRanges HiddenIn(const ExtentArray& layer) const;
  Task<absl::StatusOr<BlockRanges>> DurablyHiddenIn(const ExtentArray& layer);
  // Grows with every change of what the overlay holds.
  uint64_t version() const { return version_; }
  // Requests that begin from here on use nothing of former chains and overlays; true when those
  // have ended that began before.
  void BeginGeneration() { generations_.push_back(0); }
  bool HaveFormerEnded();
  // Called once, on the loop, when the next change ends.
  void WatchNextChange(std::function<void()> watch) { watch_ = std::move(watch); }

  bool has_overlay() const { return overlay_ != nullptr; }
  bool is_sealing() const { return sealed_ != nullptr; }
  // Null when never written.
  Overlay* overlay() { return overlay_.get(); }
  const std::shared_ptr<const ChainMap>& chain() const { return chain_; }
  // Live data blocks of the overlay, and of one that is being sealed.
  uint64_t stored_blocks() const;

 private:
  // One piece of a lookup: where it was found.
  struct Piece {
    enum class Level : uint8_t { kNowhere, kOverlay, kSealed, kChain };
    Segment segment;
    Level level = Level::kNowhere;
  };
  using Pieces = absl::InlinedVector<Piece, 4>;  // nearly every read is one or two
  // Counts a request while it is under way; a change also as such.
  class Operation {
   public:
    Operation(CowDevice& device, bool is_change)
        : device_(device), generation_(device.generations_.back()), is_change_(is_change) {
      ++generation_;
      ++device_.operations_;
      device_.traffic_.Count();
      if (is_change_) ++device_.changes_;
    }
    ~Operation() {
      if (is_change_) device_.EndChange();
      --generation_;
      if (--device_.operations_ == 0) device_.operations_done_.WakeAll();
    }
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

   private:
    CowDevice& device_;
    uint64_t& generation_;
    const bool is_change_;
  };

  static constexpr uint64_t kPieceBlocks = JournalRecord::kBlocksMax;
  enum class Zeros : uint8_t { kAsHole, kAsData };  // how a write stores whole blocks of zeros

  absl::Status CheckRange(uint64_t offset_bytes, uint64_t length_bytes) const;
  absl::Status CheckWritable(uint64_t offset_bytes, uint64_t length_bytes) const;

  Task<absl::Status> ReadBlocks(uint64_t block, std::span<std::byte> into);
  Task<absl::Status> ReadChain(const ChainMap& chain, const Segment& segment,
                               std::span<std::byte> into);
  void ExpectInChain(uint64_t source, uint64_t physical) const;
  void ExpectPieces(const Pieces& pieces) const;
  void LookUp(uint64_t begin, uint64_t end, Pieces* pieces) const;

  Task<void> BeginChange();
  Task<void> LetSwitchPass();
  Task<absl::Status> EnsureOverlay();
  Task<absl::Status> EnsureOverlayToZero();
  Task<absl::Status> WriteRange(uint64_t offset_bytes, std::span<const std::byte> from,
                                Zeros zeros);
  Task<absl::Status> WriteBlocks(uint64_t block, std::span<const std::byte> data);
  Task<absl::Status> WritePartial(uint64_t offset_bytes, std::span<const std::byte> from);
  Task<absl::Status> ZeroBlocks(uint64_t begin, uint64_t end);
  Task<absl::Status> WriteZeroData(uint64_t offset_bytes, uint64_t length_bytes);
  Task<absl::Status> ZeroRange(uint64_t offset_bytes, uint64_t length_bytes);
  absl::Status ReserveForCap(uint64_t block, uint64_t blocks, uint64_t* reserved);
  uint64_t SeenBelow(uint64_t begin, uint64_t end) const;
  void CountBelow();
  void EndChange();

  DataFileCache& files_;
  CowDeviceOptions options_;

  // Where blocks are: the overlay, one that is being sealed into a layer, the layers.
  std::shared_ptr<Overlay> overlay_;
  std::shared_ptr<Overlay> sealed_;
  std::shared_ptr<const ChainMap> chain_;
  std::vector<std::shared_ptr<DataFile>>
      chain_files_;  // by ChainMap::files; opened at their first read

  // Requests in flight, and who waits for none.
  RangeLock locks_;
  uint64_t operations_ = 0;
  Traffic traffic_;
  std::list<uint64_t> generations_ = {0};  // of operations_, how many began in each; newest last
  uint64_t changes_ = 0;
  bool paused_ = false;
  bool making_overlay_ = false;
  WaitQueue operations_done_;
  WaitQueue changes_done_;
  WaitQueue resumed_;
  WaitQueue overlay_made_;

  uint64_t version_ = 0;
  std::function<void()> watch_;

  // The cap.
  uint64_t cap_reserved_blocks_ = 0;  // by writes in flight
  uint64_t below_blocks_ = 0;         // SeenBelow of the whole device, at below_version_
  uint64_t below_version_ = 0;
};

}  // namespace cowl
