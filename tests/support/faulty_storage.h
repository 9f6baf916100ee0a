// faulty_storage.h: a Storage that fails when its plan says so, in front of any other.
// Use: FaultPlan plan; FaultyStorage storage(inner, &plan);  plan.FailNth({IoRequest::Op::kSync,
// "overlays/", 3, EIO}); Ownership: the inner storage and the plan outlive it. Threads: the plan
// may be changed from any thread, also between requests. Faults come before the inner file sees the
// request: a failed request has changed nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/file.h"

namespace cowl {

struct Fault {
  IoRequest::Op op = IoRequest::Op::kWrite;
  std::string name_part;  // any file whose name holds it; empty: all
  uint64_t nth = 1;       // of the matching requests from now on, the first is 1
  int error_number = 0;   // a positive errno
  uint64_t count = 1;     // how many in a row fail, from the nth on; UINT64_MAX: for ever
};

// The same for the calls of Storage itself. A rename matches by its target's name.
struct CallFault {
  enum class Call { kCreate, kOpen, kRemove, kRename, kSyncDirectory };
  Call call = Call::kSyncDirectory;
  std::string name_part;
  uint64_t nth = 1;
  int error_number = 0;
  uint64_t count = 1;
};

class FaultPlan {
 public:
  void FailNth(const Fault& fault);
  void FailNth(const CallFault& fault);
  void ClearFaults();
  // From now on the files may take `bytes` more of space, in blocks; a write or allocation beyond
  // that fails whole with ENOSPC. What a punch, truncation or removal frees (also of older space)
  // is room again. nullopt: no limit.
  void SetRoomBytes(std::optional<uint64_t> bytes);
  std::optional<uint64_t> room_bytes() const;
  // Reads of the byte see its bit (0 to 7) flipped, until it is written, punched or truncated.
  void FlipBit(const std::string& name, uint64_t offset_bytes, int bit);

  // How often an injected error has been returned.
  uint64_t hit_count() const;

 private:
  friend class FaultyFile;
  friend class FaultyStorage;

  template <typename F>
  struct Armed {
    F fault;
    uint64_t seen = 0;
    bool IsHit(const std::string& name);
  };
  using Blocks = std::set<uint64_t>;

  // What Start does before the inner file's; a status that is not OK ends the request.
  absl::Status Before(const std::string& name, const IoRequest& request);
  void After(const std::string& name, const IoRequest& request);
  absl::Status BeforeCall(CallFault::Call call, const std::string& name);
  absl::Status TakeRoom(const std::string& name, uint64_t offset_bytes, uint64_t length_bytes);
  void GiveRoom(const std::string& name, uint64_t first_block, uint64_t end_block);
  void ForgetFlips(const std::string& name, uint64_t offset_bytes, uint64_t length_bytes);
  void NoteFile(const std::string& name, uint64_t size_bytes);
  void NoteRemoved(const std::string& name);
  void NoteRenamed(const std::string& from, const std::string& to);

  mutable std::mutex mutex_;  // guards all below
  std::vector<Armed<Fault>> armed_;
  std::vector<Armed<CallFault>> armed_calls_;
  std::optional<uint64_t> room_bytes_;
  std::map<std::string, Blocks> blocks_;                      // taken, by file
  std::map<std::string, std::map<uint64_t, uint8_t>> flips_;  // masks by offset, by file
  uint64_t hit_count_ = 0;
};

class FaultyStorage : public Storage {
 public:
  FaultyStorage(Storage& inner, FaultPlan* plan) : inner_(inner), plan_(*plan) {}

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& name, OpenMode mode) override;
  absl::Status Remove(const std::string& name) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& folder) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) override {
    return inner_.List(folder);
  }

 private:
  Storage& inner_;
  FaultPlan& plan_;
};

}  // namespace cowl
