// reaper.h: deletes layers that nobody names and gives back their space, moving no data.
//
// A layer is named by an image, a device (as its base, or as what a reset goes back to), a pin, or
// a reader of this process. One that is not:
//   without children      its row goes;
//   with children         its map is merged into each child's (what lies under the child's own
//   map), then its row goes.
// Its file stays for as long as some layer's map names it. Blocks of it that no map names any more
// are punched out. A block that is dead stays dead: no map ever gains one that was in none. So
// punching needs no lock once the dead are known, and readers of a chain are safe while the top of
// that chain is named.
//
// Crash safety: children's maps are durable before the rows change, and merging twice is merging
// once; files whose blocks must be looked at are noted in the catalog ("reclaim") with the change
// that made it necessary, until that is done. A merge that was cut short may have left the file
// that it changed with blocks that nobody names, such as half a map: after a crash or an error the
// children's files are noted, too. Threads: Run on one thread at a time. Errors: those
// of the catalog and the files; what is left is done by the next Run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "catalog/catalog.h"
#include "store/chain_cache.h"
#include "store/loop_pool.h"
#include "store/paths.h"

namespace cowl {

// Layers that readers in this process have as the top of their chain: named for as long as they are
// held.
class HeldLayers {
 public:
  class Hold {
   public:
    Hold() = default;
    Hold(HeldLayers* held, const Uuid& layer) : held_(held), layer_(layer) {}
    Hold(Hold&& other) noexcept
        : held_(std::exchange(other.held_, nullptr)), layer_(other.layer_) {}
    Hold& operator=(Hold&& other) noexcept {
      std::swap(held_, other.held_);
      std::swap(layer_, other.layer_);
      return *this;
    }
    ~Hold() {
      if (held_ != nullptr) held_->Release(layer_);
    }

   private:
    HeldLayers* held_ = nullptr;
    Uuid layer_;
  };

  Hold Take(const Uuid& layer);
  bool IsHeld(const Uuid& layer);

 private:
  void Release(const Uuid& layer);

  std::mutex mutex_;
  std::map<Uuid, int> counts_;  // guarded by mutex_
};

class Reaper {
 public:
  // `files_mutex`: held shared by whoever reads layer maps or has files that no row names yet; the
  // reaper takes it exclusively while it changes them.
  Reaper(StorePaths paths, Catalog& catalog, LoopPool& loops, ChainCache& chains, HeldLayers& held,
         std::shared_mutex& files_mutex)
      : paths_(std::move(paths)),
        catalog_(catalog),
        loops_(loops),
        chains_(chains),
        held_(held),
        files_mutex_(files_mutex) {}

  // Deletes what may go, and returns the bytes of disk that this freed.
  absl::StatusOr<uint64_t> Run();
  // Removes files that no row names, and punches what is dead in every data file: what a crash may
  // have left.
  absl::StatusOr<uint64_t> CollectGarbage();
  // Only the first half of that: quick enough for every opening.
  absl::StatusOr<uint64_t> RemoveUnnamedFiles();
  // Has the next Run punch out of the file what no map names.
  static absl::Status NoteForReclaim(CatalogEdits& edits, const Uuid& file);
  // May the layer have lost blocks to hidden_space.cc that its row still counts?
  static absl::StatusOr<bool> IsNoted(CatalogQueries& queries, const Uuid& file);
  // The files whose dead blocks Runs to come look for anyway.
  static absl::StatusOr<std::set<Uuid>> DueFiles(CatalogQueries& queries);
  // The blocks of the file that the layers' maps name; none where no layer uses the file.
  // REQUIRES: files_mutex_ is held.
  absl::StatusOr<std::optional<BlockRanges>> LiveBlocks(LoopSlot& slot, const Uuid& file);
  // The layers that Runs have deleted since this was last asked: open chains may still name them.
  std::vector<Uuid> TakeDeleted() { return std::exchange(deleted_, {}); }
  // The layers that lost a child by Runs since this was last asked.
  std::set<Uuid> TakeBereaved() { return std::exchange(bereaved_, {}); }

 private:
  // What there is to do about one layer.
  struct Job {
    LayerRow layer;
    std::vector<LayerRow> children;
  };
  absl::Status RemoveUnnamedLayers();
  absl::StatusOr<std::optional<Job>> NextJob(const std::unordered_set<Uuid>& skipped);
  absl::StatusOr<std::unordered_set<Uuid>> Untouchable(CatalogQueries& queries);
  absl::Status Do(const Job& job);
  absl::Status RewriteChildren(LoopSlot& slot, const Job& job, std::vector<LayerRow>* changed,
                               std::vector<std::vector<Uuid>>* files, std::set<Uuid>* diminished);

  absl::StatusOr<uint64_t> ReclaimNoted();
  absl::StatusOr<uint64_t> Reclaim(const Uuid& file);
  // The layers whose maps name a file, and these maps.
  struct Users {
    std::vector<LayerRow> rows;
    std::vector<std::shared_ptr<const LayerMap>> maps;
  };
  absl::StatusOr<Users> UsersOf(LoopSlot& slot, const Uuid& file);
  static BlockRanges LiveIn(const Users& users, const Uuid& file);
  absl::Status MendRows(const Users& users);
  absl::StatusOr<uint64_t> PunchFile(LoopSlot& slot, const Uuid& file);
  absl::StatusOr<uint64_t> RemoveUnnamed(const std::string& folder,
                                         const std::vector<std::string>& names,
                                         const std::string& suffix,
                                         const std::unordered_set<std::string>& named);

  const StorePaths paths_;
  Catalog& catalog_;
  LoopPool& loops_;
  ChainCache& chains_;
  HeldLayers& held_;
  std::shared_mutex& files_mutex_;
  std::vector<Uuid> deleted_;
  std::set<Uuid> bereaved_;
  bool cut_short_ = true;  // perhaps: by whoever had the store before, or by an error
};

}  // namespace cowl
