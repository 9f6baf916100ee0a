#include "support/crash_disk.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "base/status.h"

namespace cowl {

using Op = IoRequest::Op;
using Kind = DiskEvent::Kind;

namespace {

constexpr uint64_t kSectorsPerPage = kBlockBytes / kSectorBytes;

std::string FolderOf(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? "" : name.substr(0, slash);
}

void LoadSector(const MemoryStorage::Content& content, uint64_t sector, std::byte* into) {
  const auto page = content.pages.find(sector / kSectorsPerPage);
  if (page == content.pages.end()) {
    std::memset(into, 0, kSectorBytes);
  } else {
    std::memcpy(into, page->second.data() + sector % kSectorsPerPage * kSectorBytes, kSectorBytes);
  }
}

void StoreSector(MemoryStorage::Content& content, uint64_t sector, const std::byte* from) {
  std::vector<std::byte>& page = content.pages[sector / kSectorsPerPage];
  if (page.empty()) page.resize(kBlockBytes);
  std::memcpy(page.data() + sector % kSectorsPerPage * kSectorBytes, from, kSectorBytes);
}

// Pages may hold more than the size says while a state is put together.
void CutAt(MemoryStorage::Content& content, uint64_t size_bytes) {
  content.pages.erase(content.pages.lower_bound(BlocksCeil(size_bytes)), content.pages.end());
  if (const auto last = content.pages.find(BlocksFloor(size_bytes)); last != content.pages.end()) {
    std::fill(last->second.begin() + static_cast<ptrdiff_t>(size_bytes % kBlockBytes),
              last->second.end(), std::byte{0});
  }
  content.size_bytes = size_bytes;
}

uint64_t SizeAfter(Op op, uint64_t size_bytes, uint64_t end_bytes) {
  return op == Op::kTruncate ? end_bytes : std::max(size_bytes, end_bytes);
}

}  // namespace

// What a state takes of what is pending.
struct CrashDisk::Choice {
  Choice(CrashMode mode_in, uint64_t seed, size_t position)
      : mode(mode_in), random(seed * 0x9e3779b97f4a7c15u + position) {
    constexpr unsigned kPercents[] = {8, 50, 92};
    keep_percent = kPercents[random() % 3];
  }
  bool Coin() { return random() % 2 == 0; }
  bool Keeps() { return random() % 100 < keep_percent; }

  const CrashMode mode;
  std::mt19937_64 random;
  unsigned keep_percent;  // kRandom: how much this state likes the new
  size_t prefix_end = 0;  // kPrefix: events before it are taken
};

CrashDisk::CrashDisk(const DiskLog& log) : log_(log), sure_names_(log.initial_files) {
  MemoryStorage initial = log.initial;  // shares its files
  for (const auto& [name, number] : sure_names_) {
    FileState& state = files_[number];
    state.sure = *initial.files().at(name);
    state.cache = state.sure;
  }
}

void CrashDisk::AdvanceTo(size_t position) {
  COWL_CHECK(position >= position_ && position <= log_.events.size());
  for (; position_ < position; ++position_) Apply(position_, log_.events[position_]);
}

void CrashDisk::Apply(size_t index, const DiskEvent& event) {
  switch (event.kind) {
    case Kind::kChangeBegan:
      Begin(index, event);
      break;
    case Kind::kChangeDone:
      files_[event.file].changes.at(event.begun).done = index;
      break;
    case Kind::kSyncDone:
      SyncFile(event.file, event.begun);
      break;
    case Kind::kSyncFailed:
      for (auto& [at, change] : files_[event.file].changes) {
        if (change.done < event.begun) change.is_orphan = true;
      }
      break;
    case Kind::kCreate:
      files_[event.file];
      name_changes_.push_back(
          {index, event.kind, event.file, "", event.name, {FolderOf(event.name)}});
      break;
    case Kind::kRemove:
      name_changes_.push_back(
          {index, event.kind, event.file, "", event.name, {FolderOf(event.name)}});
      break;
    case Kind::kRename:
      name_changes_.push_back({index,
                               event.kind,
                               event.file,
                               event.name,
                               event.new_name,
                               {FolderOf(event.name), FolderOf(event.new_name)}});
      break;
    case Kind::kSyncDirectory:
      SyncFolder(event.name);
      break;
    case Kind::kSyncBegan:
    case Kind::kMarker:
      break;
  }
}

void CrashDisk::AddVersions(FileState& state, size_t index, uint64_t first_byte, uint64_t end_byte,
                            bool only_present) {
  std::set<uint64_t> sectors;
  const uint64_t first = first_byte / kSectorBytes;
  const uint64_t end = end_byte > UINT64_MAX - kSectorBytes
                           ? UINT64_MAX
                           : (end_byte + kSectorBytes - 1) / kSectorBytes;
  if (only_present) {
    // Where there was nothing anyway, zeroing leaves no version.
    for (const Content* content : {&state.sure, &state.cache}) {
      for (auto page = content->pages.lower_bound(first / kSectorsPerPage);
           page != content->pages.end(); ++page) {
        if (page->first * kSectorsPerPage >= end) break;
        for (uint64_t i = 0; i < kSectorsPerPage; ++i)
          sectors.insert(page->first * kSectorsPerPage + i);
      }
    }
    for (auto at = state.sectors.lower_bound(first); at != state.sectors.end() && at->first < end;
         ++at)
      sectors.insert(at->first);
    sectors.erase(sectors.begin(), sectors.lower_bound(first));
    sectors.erase(sectors.lower_bound(end), sectors.end());
  } else {
    for (uint64_t sector = first; sector < end; ++sector) sectors.insert(sectors.end(), sector);
  }
  for (const uint64_t sector : sectors) state.sectors[sector].push_back({index, {}});
}

void CrashDisk::Begin(size_t index, const DiskEvent& event) {
  FileState& state = files_[event.file];
  const uint64_t end = event.offset_bytes + event.length_bytes;
  const uint64_t size_before = state.cache.size_bytes;
  const bool makes_size =
      event.op != Op::kPunchHole && !(event.op != Op::kTruncate && event.length_bytes == 0);
  const uint64_t end_bytes = !makes_size ? 0 : event.op == Op::kTruncate ? event.offset_bytes : end;
  state.changes[index] = {event.op, end_bytes};
  switch (event.op) {
    case Op::kWrite:
      if (event.length_bytes > 0) AddVersions(state, index, event.offset_bytes, end, false);
      WriteContent(state.cache, event.offset_bytes, event.bytes);
      break;
    case Op::kPunchHole:
      AddVersions(state, index, event.offset_bytes, std::min(end, size_before), true);
      PunchContent(state.cache, event.offset_bytes, event.length_bytes);
      break;
    case Op::kTruncate:
      if (event.offset_bytes < size_before)
        AddVersions(state, index, event.offset_bytes, UINT64_MAX, true);
      TruncateContent(state.cache, event.offset_bytes);
      break;
    case Op::kAllocate:
      state.cache.size_bytes = SizeAfter(event.op, size_before, end_bytes);
      break;
    case Op::kRead:
    case Op::kSync:
      break;
  }
  // The versions this change made get what the cache holds now.
  for (auto at = state.sectors.lower_bound(event.offset_bytes / kSectorBytes);
       at != state.sectors.end(); ++at) {
    if (event.op != Op::kTruncate && at->first * kSectorBytes >= end) break;
    if (at->second.back().event == index)
      LoadSector(state.cache, at->first, at->second.back().bytes.data());
  }
}

void CrashDisk::SyncFile(uint32_t file, size_t begun) {
  FileState& state = files_[file];
  const auto is_covered = [&](size_t event) {
    const Change& change = state.changes.at(event);
    return change.done < begun && !change.is_orphan;
  };
  for (auto at = state.sectors.begin(); at != state.sectors.end();) {
    std::vector<Version>& versions = at->second;
    size_t last = versions.size();
    while (last > 0 && !is_covered(versions[last - 1].event)) --last;
    if (last > 0) {
      StoreSector(state.sure, at->first, versions[last - 1].bytes.data());
      // What is older is gone, but for what had not come to its end: that may still land.
      std::vector<Version> left;
      for (size_t i = 0; i < versions.size(); ++i) {
        if (i >= last || state.changes.at(versions[i].event).done > begun)
          left.push_back(versions[i]);
      }
      versions = std::move(left);
    }
    at = versions.empty() ? state.sectors.erase(at) : std::next(at);
  }
  bool is_cut_later = false;
  for (auto at = state.changes.rbegin(); at != state.changes.rend(); ++at) {
    if (at->second.is_orphan && is_cut_later) at->second.has_size = false;
    is_cut_later = is_cut_later || (is_covered(at->first) && at->second.op == Op::kTruncate);
  }
  for (auto at = state.changes.begin(); at != state.changes.end();) {
    if (is_covered(at->first)) {
      if (at->second.end_bytes > 0 || at->second.op == Op::kTruncate) {
        state.sure.size_bytes =
            SizeAfter(at->second.op, state.sure.size_bytes, at->second.end_bytes);
      }
      at = state.changes.erase(at);
    } else {
      ++at;
    }
  }
  // A sync of a new file makes its name sure too.
  std::erase_if(name_changes_, [&](const NameChange& change) {
    if (change.kind != Kind::kCreate || change.file != file || change.event > begun) return false;
    Rename(change, sure_names_);
    return true;
  });
}

void CrashDisk::SyncFolder(const std::string& folder) {
  std::erase_if(name_changes_, [&](NameChange& change) {
    change.folders.erase(folder);
    if (!change.folders.empty()) return false;
    Rename(change, sure_names_);
    return true;
  });
}

void CrashDisk::Rename(const NameChange& change, Names& names) {
  if (change.kind == Kind::kCreate) {
    names[change.name] = change.file;
    return;
  }
  const std::string& old_name = change.kind == Kind::kRename ? change.from : change.name;
  const auto found = names.find(old_name);
  if (found == names.end() || found->second != change.file)
    return;  // an earlier change did not happen
  names.erase(found);
  if (change.kind == Kind::kRename) names[change.name] = change.file;
}

std::vector<size_t> CrashDisk::PendingEvents() const {
  std::vector<size_t> events;
  for (const auto& [number, state] : files_) {
    for (const auto& [event, change] : state.changes) events.push_back(event);
  }
  for (const NameChange& change : name_changes_) events.push_back(change.event);
  std::sort(events.begin(), events.end());
  return events;
}

MemoryStorage CrashDisk::Build(CrashMode mode, uint64_t seed) const {
  Choice choice(mode, seed, position_);
  if (mode == CrashMode::kPrefix) {
    const std::vector<size_t> pending = PendingEvents();
    const size_t taken = choice.random() % (pending.size() + 1);
    choice.prefix_end = taken == pending.size() ? position_ : pending[taken];
  }
  MemoryStorage storage;
  std::map<uint32_t, std::shared_ptr<Content>>
      built;  // two names of one file, should a rename leave both
  for (const auto& [name, number] : ChooseNames(choice)) {
    std::shared_ptr<Content>& content = built[number];
    if (content == nullptr)
      content = std::make_shared<Content>(ChooseContent(files_.at(number), choice));
    storage.files()[name] = content;
  }
  return storage;
}

CrashDisk::Names CrashDisk::ChooseNames(Choice& choice) const {
  Names names = sure_names_;
  for (const NameChange& change : name_changes_) {
    bool happened = false;
    switch (choice.mode) {
      case CrashMode::kKeepAll:
      case CrashMode::kTorn:
        happened = true;
        break;
      case CrashMode::kDropUnsynced:
        break;
      case CrashMode::kPrefix:
        happened = change.event < choice.prefix_end;
        break;
      case CrashMode::kRandom:
        happened = choice.Keeps();
        break;
    }
    if (happened) Rename(change, names);
  }
  return names;
}

// The size, and with it what happened of every change: truncations go with the size that was
// chosen.
uint64_t CrashDisk::ChooseSize(const FileState& state, Choice& choice,
                               std::map<size_t, Take>* takes) {
  const size_t count = state.changes.size();
  size_t sizes_taken = count;  // kRandom: the sizes of so many changes came about, in order
  if (choice.mode == CrashMode::kRandom && !choice.Keeps())
    sizes_taken = choice.random() % (count + 1);
  uint64_t size_bytes = state.sure.size_bytes;
  size_t index = 0;
  for (const auto& [event, change] : state.changes) {
    const bool is_done = change.done != kNever;
    Take take = Take::kNone;
    bool takes_size = false;
    switch (choice.mode) {
      case CrashMode::kKeepAll:
        take = is_done ? Take::kAll : Take::kNone;
        break;
      case CrashMode::kTorn:
        take = is_done ? Take::kAll : Take::kPerSector;
        break;
      case CrashMode::kDropUnsynced:
        break;
      case CrashMode::kPrefix:
        if (event < choice.prefix_end) take = is_done ? Take::kAll : Take::kPerSector;
        break;
      case CrashMode::kRandom:
        take = Take::kPerSector;
        takes_size = index < sizes_taken && (is_done || choice.Coin());
        if (change.op == Op::kPunchHole && choice.Coin())
          take = choice.Keeps() ? Take::kAll : Take::kNone;
        if (change.op == Op::kTruncate) take = takes_size ? Take::kAll : Take::kNone;
        break;
    }
    if (choice.mode != CrashMode::kRandom)
      takes_size = take == Take::kAll || (take == Take::kPerSector && choice.Coin());
    if (change.op == Op::kTruncate && take == Take::kPerSector)
      take = takes_size ? Take::kAll : Take::kNone;
    const bool makes_size = change.has_size && (change.end_bytes > 0 || change.op == Op::kTruncate);
    if (takes_size && makes_size) size_bytes = SizeAfter(change.op, size_bytes, change.end_bytes);
    takes->emplace(event, take);
    ++index;
  }
  return size_bytes;
}

const CrashDisk::Sector* CrashDisk::ChooseSector(const std::vector<Version>& versions,
                                                 const FileState& state,
                                                 const std::map<size_t, Take>& takes,
                                                 Choice& choice) {
  std::vector<const Version*> candidates{nullptr};  // nullptr: as it was at the last sync
  for (const Version& version : versions) {
    const Take take = takes.at(version.event);
    if (take == Take::kNone) continue;
    const bool is_write = state.changes.at(version.event).op == Op::kWrite;
    if (take == Take::kAll && (choice.mode != CrashMode::kRandom || !is_write)) {
      candidates.clear();  // it happened: nothing older can be seen
    } else if (choice.mode != CrashMode::kRandom && !choice.Coin()) {
      continue;
    }
    candidates.push_back(&version);
  }
  const Version* chosen = candidates.back();
  if (choice.mode == CrashMode::kRandom && !choice.Keeps()) {
    chosen = choice.Coin() ? candidates.front() : candidates[choice.random() % candidates.size()];
  }
  return chosen == nullptr ? nullptr : &chosen->bytes;
}

CrashDisk::Content CrashDisk::ChooseContent(const FileState& state, Choice& choice) const {
  std::map<size_t, Take> takes;
  const uint64_t size_bytes = ChooseSize(state, choice, &takes);
  Content content = state.sure;
  if (choice.mode != CrashMode::kDropUnsynced) {
    for (const auto& [sector, versions] : state.sectors) {
      const Sector* const chosen = ChooseSector(versions, state, takes, choice);
      if (chosen != nullptr && sector * kSectorBytes < size_bytes)
        StoreSector(content, sector, chosen->data());
    }
  }
  CutAt(content, size_bytes);
  return content;
}

}  // namespace cowl
