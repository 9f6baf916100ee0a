// crash_disk.h: what a disk holds for sure and what is pending, at one position of a recording. The
// engine of crash_simulator.h; the fault model stands there.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/units.h"
#include "support/crash_simulator.h"

namespace cowl {

class CrashDisk {
 public:
  explicit CrashDisk(const DiskLog& log);

  size_t position() const { return position_; }
  void AdvanceTo(size_t position);
  MemoryStorage Build(CrashMode mode, uint64_t seed) const;

 private:
  static constexpr size_t kNever = static_cast<size_t>(-1);
  using Content = MemoryStorage::Content;
  using Sector = std::array<std::byte, kSectorBytes>;

  // A change of a file that no sync has made sure yet.
  struct Change {
    IoRequest::Op op;
    uint64_t end_bytes;  // the size it makes (truncate), or the least size it leaves (write,
                         // allocate); 0: none (punch)
    size_t done = kNever;
    bool is_orphan = false;  // a failed sync covered it
    bool has_size = true;    // false: a later truncation that is sure made this size moot
  };
  // A sector as a change left it.
  struct Version {
    size_t event;
    Sector bytes;
  };
  struct FileState {
    Content sure;
    Content cache;                     // all that has begun
    std::map<size_t, Change> changes;  // by event
    std::map<uint64_t, std::vector<Version>> sectors;
  };
  struct NameChange {
    size_t event;
    DiskEvent::Kind kind;
    uint32_t file;
    std::string from;  // of a rename; else empty
    std::string name;
    std::set<std::string> folders;  // those whose sync is still missing
  };
  using Names = std::map<std::string, uint32_t>;

  // How much of a change is taken.
  enum class Take { kNone, kAll, kPerSector };
  struct Choice;

  void Apply(size_t index, const DiskEvent& event);
  void Begin(size_t index, const DiskEvent& event);
  void SyncFile(uint32_t file, size_t begun);
  void SyncFolder(const std::string& folder);
  static void AddVersions(FileState& state, size_t index, uint64_t first_byte, uint64_t end_byte,
                          bool only_present);
  static void Rename(const NameChange& change, Names& names);

  std::vector<size_t> PendingEvents() const;
  Names ChooseNames(Choice& choice) const;
  Content ChooseContent(const FileState& state, Choice& choice) const;
  static uint64_t ChooseSize(const FileState& state, Choice& choice, std::map<size_t, Take>* takes);
  static const Sector* ChooseSector(const std::vector<Version>& versions, const FileState& state,
                                    const std::map<size_t, Take>& takes, Choice& choice);

  const DiskLog& log_;
  size_t position_ = 0;
  std::map<uint32_t, FileState> files_;
  Names sure_names_;
  std::vector<NameChange> name_changes_;
};

}  // namespace cowl
