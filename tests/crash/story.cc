#include "story.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>

#include "absl/strings/str_cat.h"
#include "base/units.h"
#include "stack/seeds.h"

namespace cowl {
namespace {

using Catalogs =
    std::vector<std::pair<size_t, StackCatalog>>;  // by the position from which they count

const StackCatalog& CatalogAt(const Catalogs& catalogs, size_t position) {
  const StackCatalog* found = &catalogs.front().second;
  for (const auto& [from, catalog] : catalogs) {
    if (from <= position) found = &catalog;
  }
  return *found;
}

Task<absl::Status> ReadAll(CowDevice* device, std::vector<std::byte>* image) {
  image->resize(device->size_bytes());
  co_return co_await device->Read(0, *image);
}

// One life on a recorded disk.
class Life {
 public:
  Life(const StoryOptions& options, RecordingStorage& storage, Catalogs& catalogs, History& history,
       uint64_t seed, StoryCounts& counts)
      : options_(options),
        storage_(storage),
        history_(history),
        counts_(counts),
        random_(seed),
        loop_(std::make_unique<ShuffledLoop>(storage, random_())),
        stack_(*loop_, storage, catalogs.back().second) {
    stack_.on_catalog = [&storage, &catalogs](const StackCatalog& catalog) {
      catalogs.emplace_back(storage.position(), catalog);
    };
  }

  enum class End { kClose, kDrop, kCommit, kKill };

  // "" or what went wrong.
  std::string Live(End end, bool fail_sync);

 private:
  struct Request {
    enum class Kind { kWrite, kDiscard, kZero, kRead, kFlush };
    Kind kind;
    uint64_t offset = 0;
    uint64_t length = 0;
  };

  std::string Open();
  std::string Finish(End end);
  void Abandon();
  Request Pick();
  void MakeSize(Request* request);
  Task<void> Client();
  Task<absl::Status> Do(const Request* request);
  Task<absl::Status> DoChange(Request request);
  History::Overwrite ContentOf(const Request& request);
  Task<void> Control();
  Task<absl::Status> ControlOnce();
  void Failed(const std::string& what, const absl::Status& status);

  const StoryOptions& options_;
  RecordingStorage& storage_;
  History& history_;
  StoryCounts& counts_;
  std::mt19937_64 random_;
  std::unique_ptr<ShuffledLoop> loop_;
  Stack stack_;
  std::map<uint64_t, History::Overwrite> in_flight_;  // changes that have not been answered
  uint64_t changes_begun_ = 0;
  size_t opened_at_ = 0;  // position
  int requests_left_ = 0;
  int clients_left_ = 0;
  bool control_runs_ = false;
  bool errors_expected_ = false;
  bool stopped_ = false;  // an expected error came
  std::string failure_;
};

void Life::Failed(const std::string& what, const absl::Status& status) {
  stopped_ = true;
  if (!errors_expected_ && failure_.empty()) failure_ = absl::StrCat(what, ": ", status.ToString());
}

// A request makes one record at most, so that the order of answers is the order of records.
void Life::MakeSize(Request* request) {
  const uint64_t size = history_.size_bytes();
  if (request->kind != Request::Kind::kDiscard && random_() % 3 == 0) {  // within a block
    const uint64_t block = random_() % BlocksCeil(size);
    const uint64_t begin = BlockOffsetBytes(block);
    const uint64_t most = std::min<uint64_t>(kBlockBytes, size - begin);
    const uint64_t within = random_() % most;
    *request = {request->kind, begin + within, 1 + random_() % (most - within)};
    return;
  }
  const uint64_t blocks = BlocksFloor(size);
  const uint64_t length = random_() % 4 == 0 ? 1 + random_() % 24 : 1 + random_() % 3;
  const uint64_t block = random_() % blocks;
  *request = {request->kind, BlockOffsetBytes(block),
              BlockOffsetBytes(std::min(length, blocks - block))};
  const bool reaches_end = request->kind == Request::Kind::kDiscard &&
                           request->offset + request->length == BlockOffsetBytes(blocks);
  if (reaches_end) request->length = size - request->offset;
}

Life::Request Life::Pick() {
  const uint64_t dice = random_() % 100;
  Request request{Request::Kind::kWrite};
  if (dice >= 60 && dice < 70) request.kind = Request::Kind::kDiscard;
  if (dice >= 70 && dice < 80) request.kind = Request::Kind::kZero;
  if (dice >= 80 && dice < 92) request.kind = Request::Kind::kRead;
  if (dice >= 92)
    request.kind = options_.with_flushes ? Request::Kind::kFlush : Request::Kind::kRead;
  MakeSize(&request);
  return request;
}

Task<absl::Status> Life::Do(const Request* request) {
  CowDevice& device = stack_.device();
  absl::Status status;
  switch (request->kind) {
    case Request::Kind::kWrite:
    case Request::Kind::kDiscard:
    case Request::Kind::kZero:
      status = co_await DoChange(*request);
      break;
    case Request::Kind::kRead: {
      std::vector<std::byte> bytes(request->length);
      status = co_await device.Read(request->offset, bytes);
      break;
    }
    case Request::Kind::kFlush: {
      const size_t state = history_.now();
      status = co_await device.Flush();
      if (status.ok()) history_.Flushed(state, storage_.position());
      break;
    }
  }
  co_return status;
}

History::Overwrite Life::ContentOf(const Request& request) {
  if (request.kind == Request::Kind::kDiscard)
    return history_.DiscardAsOverwrite(request.offset, request.length);
  if (request.kind == Request::Kind::kZero)
    return {request.offset, std::vector<std::byte>(request.length)};
  return {request.offset, RandomBytes(random_, request.length)};
}

Task<absl::Status> Life::DoChange(Request request) {
  CowDevice& device = stack_.device();
  const uint64_t number = ++changes_begun_;
  const History::Overwrite& kept = in_flight_[number] = ContentOf(request);
  absl::Status status;
  if (request.kind == Request::Kind::kWrite)
    status = co_await device.Write(request.offset, kept.bytes, {});
  if (request.kind == Request::Kind::kDiscard)
    status = co_await device.Discard(request.offset, request.length, {});
  if (request.kind == Request::Kind::kZero)
    status = co_await device.WriteZeroes(request.offset, request.length, {});
  if (!status.ok()) co_return status;  // it may have happened all the same
  if (!kept.bytes.empty()) history_.Write(kept.offset_bytes, kept.bytes, storage_.position());
  in_flight_.erase(number);
  co_return status;
}

Task<void> Life::Client() {
  while (requests_left_ > 0 && !stopped_) {
    --requests_left_;
    const Request request = Pick();
    const absl::Status status = co_await Do(&request);
    if (!status.ok())
      Failed(absl::StrCat("request of kind ", static_cast<int>(request.kind)), status);
  }
  --clients_left_;
}

Task<absl::Status> Life::ControlOnce() {
  const size_t layers = stack_.catalog().layers.size();
  // Dropping what is hidden flushes, which takes the bite out of a cut: seldom.
  const uint64_t dice = random_() % 18;
  if (dice < 6) {
    ++counts_.snapshots;
    co_return co_await stack_.Snapshot();
  }
  if (dice < 9) {
    if (layers < 2) co_return absl::OkStatus();
    co_return co_await stack_.DeleteLayer(1 + random_() % (layers - 1));
  }
  if (dice < 12) {
    absl::StatusOr<uint64_t> freed = co_await stack_.CollectGarbage();
    co_return freed.status();
  }
  if (dice == 12) {
    if (layers < 1 || !stack_.catalog().pending.IsNil()) co_return absl::OkStatus();
    ++counts_.drops;
    co_return co_await stack_.DropHidden();
  }
  co_return co_await stack_.device().overlay()->Checkpoint();
}

Task<void> Life::Control() {
  while (requests_left_ > 0 && !stopped_) {
    co_await Sleep(*loop_, std::chrono::milliseconds(1));
    const absl::Status status = co_await ControlOnce();
    if (!status.ok()) Failed("control", status);
  }
  control_runs_ = false;
}

std::string Life::Open() {
  const size_t answered = history_.AnsweredAt(storage_.position());
  if (const absl::Status status = loop_->Drive(stack_.Open()); !status.ok())
    return "open: " + status.ToString();
  counts_.forward += stack_.recovery() == "rolled forward";
  counts_.back += stack_.recovery() == "dropped the successor";
  std::vector<std::byte> image;
  if (const absl::Status status = loop_->Drive(ReadAll(&stack_.device(), &image)); !status.ok())
    return "read: " + status.ToString();
  // Nothing answered is lost between lives.
  const std::optional<size_t> state = history_.Find(image, answered);
  if (!state)
    return absl::StrCat("reopened, and not at a state from ", answered,
                        " on: ", history_.Explain(image));
  history_.GoOnFrom(*state, image);
  opened_at_ = storage_.position();
  return "";
}

std::string Life::Live(End end, bool fail_sync) {
  if (const std::string problem = Open(); !problem.empty()) {
    Abandon();
    return problem;
  }
  // The overlay is there before control work looks at it.
  if (!stack_.device().has_overlay()) {
    if (const absl::Status status = loop_->Drive(stack_.device().Discard(0, 0, {})); !status.ok())
      return status.ToString();
  }
  errors_expected_ = fail_sync;
  if (fail_sync) storage_.FailNthSync(1 + random_() % 6, EIO);
  requests_left_ = options_.requests;
  clients_left_ = options_.clients;
  for (int i = 0; i < options_.clients; ++i) StartDetached(Client());
  control_runs_ = options_.with_control;
  if (control_runs_) StartDetached(Control());
  // About ten steps a request.
  const uint64_t kill_at = end == End::kKill
                               ? 1 + random_() % (static_cast<uint64_t>(options_.requests) * 8)
                               : UINT64_MAX;
  for (uint64_t step = 0;
       step < kill_at && (clients_left_ > 0 || control_runs_) && failure_.empty(); ++step) {
    if (!loop_->Step()) loop_->WakeSomeSleeper();
  }
  if (end == End::kKill || stopped_ || !failure_.empty()) {
    ++counts_.kills;
    Abandon();
    return failure_;
  }
  const std::string problem = Finish(end);
  if (stack_.is_open()) Abandon();
  storage_.FailNthSync(0, 0);
  return errors_expected_ ? "" : problem;
}

void Life::Abandon() {
  loop_->Abandon();
  if (stack_.is_open()) stack_.Abandon();
  storage_.FailNthSync(0, 0);
  std::vector<History::Overwrite> unanswered;
  for (auto& [number, change] : in_flight_) {
    if (!change.bytes.empty()) unanswered.push_back(std::move(change));
  }
  history_.Unanswered(std::move(unanswered));
}

std::string Life::Finish(End end) {
  const size_t state = history_.now();
  absl::Status status;
  switch (end) {
    case End::kClose:
      status = loop_->Drive(stack_.Close());
      break;
    case End::kDrop:
      status = loop_->Drive(stack_.Drop());
      break;
    case End::kCommit:
      status = loop_->Drive(stack_.Commit());
      if (status.ok()) status = loop_->Drive(stack_.Close());
      break;
    case End::kKill:
      break;
  }
  if (!status.ok()) return "end of life: " + status.ToString();
  // Closing what was only read writes nothing: what an earlier life left in the page cache stays
  // there.
  const bool wrote = storage_.position() != opened_at_;
  if (wrote && (end == End::kClose || end == End::kCommit))
    history_.Flushed(state, storage_.position());
  return "";
}

// A stretch of the log in which one history counted.
struct Stretch {
  size_t begin;
  size_t end;
  History history;
};

class Story {
 public:
  Story(const StoryOptions& options, StoryCounts& counts)
      : options_(options), counts_(counts), random_(options.seed) {}

  std::string Tell() {
    History history(BlockOffsetBytes(options_.blocks) + 3 * kSectorBytes);
    const StackCatalog catalog{history.size_bytes(), {}, {}, {}};
    return TellOn(MemoryStorage(), catalog, history, options_.depth);
  }

 private:
  std::string TellOn(const MemoryStorage& disk, const StackCatalog& catalog, History history,
                     int depth);
  std::string Cut(const RecordingStorage& storage, const Catalogs& catalogs, const Stretch& stretch,
                  int depth);
  std::string CheckState(MemoryStorage state, const StackCatalog& catalog, History* history,
                         size_t at_least);

  const StoryOptions& options_;
  StoryCounts& counts_;
  std::mt19937_64 random_;
};

std::string Story::TellOn(const MemoryStorage& disk, const StackCatalog& catalog, History history,
                          int depth) {
  RecordingStorage storage(disk);
  Catalogs catalogs{{0, catalog}};
  std::vector<Stretch> stretches;
  const int lives = depth == options_.depth ? options_.lives : 1 + static_cast<int>(random_() % 2);
  for (int i = 0; i < lives; ++i) {
    const size_t begin = storage.position();
    StoryOptions options = options_;
    options.requests = 1 + static_cast<int>(random_() % static_cast<uint64_t>(options_.requests));
    options.with_control = options_.with_control && random_() % 2 == 0;
    options.with_flushes = options_.with_flushes && random_() % 4 != 0;
    options.clients = 1 + static_cast<int>(random_() % static_cast<uint64_t>(options_.clients));
    Life life(options, storage, catalogs, history, random_(), counts_);
    const auto end = static_cast<Life::End>(random_() % 4);
    const std::string problem = life.Live(end, i < options_.sync_failures);
    if (!problem.empty()) return absl::StrCat("life ", i, " at depth ", depth, ": ", problem);
    stretches.push_back({begin, storage.position(), history});
  }
  for (const Stretch& stretch : stretches) {
    const std::string problem = Cut(storage, catalogs, stretch, depth);
    if (!problem.empty()) return problem;
  }
  return "";
}

std::string Story::Cut(const RecordingStorage& storage, const Catalogs& catalogs,
                       const Stretch& stretch, int depth) {
  CrashSimulator simulator(storage.log());
  const size_t cuts =
      static_cast<size_t>(depth == options_.depth ? options_.cuts : std::max(options_.cuts / 6, 4));
  const std::vector<size_t> positions =
      CrashSimulator::PickPositions(stretch.begin, stretch.end, cuts, random_());
  for (const size_t position : positions) {
    const StackCatalog& catalog = CatalogAt(catalogs, position);
    for (int i = 0; i < options_.states_a_cut; ++i) {
      constexpr CrashMode kModes[] = {
          CrashMode::kRandom, CrashMode::kRandom,  CrashMode::kRandom,      CrashMode::kPrefix,
          CrashMode::kTorn,   CrashMode::kKeepAll, CrashMode::kDropUnsynced};
      const CrashMode mode = kModes[random_() % std::size(kModes)];
      const bool only_killed = mode == CrashMode::kTorn || mode == CrashMode::kKeepAll;
      const uint64_t seed = random_();
      MemoryStorage state = simulator.Build(position, mode, seed);
      History history = stretch.history;
      const size_t at_least =
          only_killed ? history.AnsweredAt(position) : history.DurableAt(position);
      ++counts_.states;
      std::string problem = CheckState(state.Clone(), catalog, &history, at_least);
      const bool lives_on = depth > 1 && random_() % 24 == 0;
      if (problem.empty() && lives_on) {
        ++counts_.power_cuts_lived_on;
        history.RestartLog(position);
        problem = TellOn(state, catalog, history, depth - 1);
        if (!problem.empty()) problem = "after living on: " + problem;
      }
      if (!problem.empty()) {
        return absl::StrCat("cut at ", position, " (", stretch.begin, " to ", stretch.end, "), ",
                            CrashModeName(mode), ", seed ", seed, ", depth ", depth, ": ", problem,
                            "\n", depth == 1 || !lives_on ? simulator.Describe(position, 12) : "");
      }
    }
  }
  return "";
}

std::string Story::CheckState(MemoryStorage state, const StackCatalog& catalog, History* history,
                              size_t at_least) {
  InlineLoop loop;
  Stack stack(loop, state, catalog);
  if (const absl::Status status = RunInline(stack.Open()); !status.ok())
    return "open: " + status.ToString();
  std::vector<std::byte> image;
  const absl::Status read = RunInline(ReadAll(&stack.device(), &image));
  const absl::Status dropped = RunInline(stack.Drop());
  if (!read.ok()) return "read: " + read.ToString();
  if (!dropped.ok()) return "drop: " + dropped.ToString();
  const std::optional<size_t> found = history->Find(image, at_least);
  if (!found)
    return absl::StrCat("not at a state from ", at_least, " on: ", history->Explain(image));
  history->GoOnFrom(*found, image);
  return "";
}

}  // namespace

void StoryCounts::Add(const StoryCounts& other) {
  states += other.states;
  power_cuts_lived_on += other.power_cuts_lived_on;
  kills += other.kills;
  snapshots += other.snapshots;
  forward += other.forward;
  back += other.back;
}

std::string TellStory(const StoryOptions& options, StoryCounts* counts) {
  return Story(options, *counts).Tell();
}

}  // namespace cowl
