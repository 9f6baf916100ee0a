#include "nbd/session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status.h"
#include "cowl/names.h"

namespace cowl::nbd {
namespace {

// One receive takes this many bytes, or up to the larger number where clients fill the smaller: 290
// reads or a write of a block, and seven of these. A pending receive keeps its memory, so this is
// also what an idle connection costs.
constexpr size_t kReceiveBytesMin = 8 * kKiB;
constexpr size_t kReceiveBytesMax = 32 * kKiB;
// A payload up to this size that has arrived in part is received on into the shared block; a larger
// one gets memory of its own.
constexpr size_t kSharedPayloadBytesMax = 8 * kKiB;
// One send takes the answers that fit in this many pieces (the kernel's limit is 1024; a read with
// holes may add some 130).
constexpr size_t kSendPiecesMax = 512;
// With this much waiting to be sent no further read is begun: it would only push out of the CPU's
// cache what has yet to go.
constexpr size_t kUnsentBytesMax = 256 * kKiB;
// A client that has nothing else under way may always have this much.
constexpr uint32_t kOnlyRequestBytes = 2 * kMiB;
// A disk that fails fails often; a client's first failures tell the story.
constexpr size_t kFailuresLoggedMax = 16;

}  // namespace

Session::Session(Stream& stream, OpenExport& disk, const ExportFacts& facts,
                 const SessionLimits& limits, std::span<const std::byte> received)
    : stream_(stream),
      disk_(disk),
      device_(disk.device()),
      facts_(facts),
      limits_(limits),
      input_(BufferPool::ForThisThread()),
      receive_bytes_(kReceiveBytesMin),
      thread_budget_(ThreadBudget::OfThisThread()) {
  input_.Append(received);
}

Task<void> Session::Run() {
  StartDetached(SendAnswers());
  co_await ReceiveRequests();
  receives_on_ = false;
  WakeSender();
  while (inflight_count_ > 0) co_await all_done_.Wait();
  sender_may_end_ = true;
  WakeSender();
  while (!sender_has_ended_) co_await sender_ended_.Wait();
}

void Session::Drain() {
  if (receives_on_) end_reason_ = "the server drains";
  receives_on_ = false;
  WakeReceivers();
  // The receiver may be waiting for the client; the last answer (RetireBatch) ends that too.
  if (inflight_count_ == 0) stream_.Shutdown();
}

void Session::Abort() {
  End("sent away");
  stream_is_broken_ = true;
  stream_.Shutdown();
  WakeReceivers();
}

void Session::End(std::string reason) {
  if (receives_on_) end_reason_ = std::move(reason);
  receives_on_ = false;
}

// --- Receiving ---

Task<void> Session::ReceiveRequests() {
  while (receives_on_) {
    if (input_.unread().size() < sizeof(WireRequest)) {
      if (!co_await ReceiveAtLeast(sizeof(WireRequest))) break;
    }
    is_taking_ = true;
    ExpectReads();
    const auto request = DecodeRequest(input_.unread());
    if (!ReadsOn(request ? &*request : nullptr)) break;
    input_.Consume(sizeof(WireRequest));
    facts_.size_bytes = device_.size_bytes();
    const Verdict verdict = ValidateRequest(*request, facts_);
    const uint32_t memory_bytes = verdict.ok() ? MemoryBytes(*request) : 0;
    if (request->type == kCmdRead && unsent_bytes_ >= kUnsentBytesMax) {
      co_await WaitForSender();
      if (!receives_on_) break;
    }
    if (!HasRoom(memory_bytes)) {
      co_await WaitForRoom(memory_bytes);
      if (!receives_on_) break;
    }
    auto job = std::make_unique<Job>();
    job->request = *request;
    if (!verdict.ok()) {
      if (!co_await SkipPayload(PayloadBytes(*request))) break;
      Refuse(std::move(job), verdict);
      continue;
    }
    TakeRoom(*job);  // now: a payload may take its time to come, and has its memory meanwhile
    if (PayloadLiesInInput(*request)) {
      TakePayloadFromInput(*job);
    } else if (!co_await ReceivePayload(*job)) {
      GiveRoom(*job);
      WakeReceivers();
      break;
    }
    Start(std::move(job));
  }
  is_taking_ = false;
}

// Tells the device of the reads that have arrived and are next, once for all of them.
void Session::ExpectReads() {
  if (expected_reads_ > 0) {
    --expected_reads_;
    return;
  }
  constexpr size_t kAtOnce = 16;
  std::array<uint64_t, kAtOnce> offsets_bytes;
  size_t count = 0;
  for (auto left = input_.unread(); count < kAtOnce && left.size() >= sizeof(WireRequest);
       left = left.subspan(sizeof(WireRequest))) {
    const auto request = DecodeRequest(left);
    if (!request || request->type != kCmdRead) break;
    offsets_bytes[count++] = request->offset_bytes;
  }
  if (count < 2) return;
  device_.ExpectReads(std::span(offsets_bytes).first(count));
  expected_reads_ = count - 1;
}

// False at what ends the session: a goodbye, or a client that is not to be understood any more.
bool Session::ReadsOn(const Request* request) {
  if (request == nullptr) {
    End("a request that does not start with the magic number");
  } else if (request->type == kCmdDisc) {
    End("");
  } else if (PayloadIsTooLarge(*request)) {
    End(absl::StrCat("a write of ", request->length_bytes,
                     " bytes; 32 MiB is the most the server takes"));
  }
  return receives_on_;
}

// Receives until that many bytes are unread in one piece. False when the stream ends first, or the
// session.
Task<bool> Session::ReceiveAtLeast(size_t unread_bytes_wanted) {
  is_taking_ = false;
  WakeSender();
  while (receives_on_ && input_.unread().size() < unread_bytes_wanted) {
    const auto room = input_.Room(unread_bytes_wanted, receive_bytes_);
    const auto received = co_await stream_.Receive(room);
    if (!received.ok() || *received == 0) {
      End(received.ok() ? "the client closed the connection" : Message(received.status()));
      co_return false;
    }
    input_.Commit(*received);
    if (*received == room.size()) {
      receive_bytes_ = kReceiveBytesMax;
    } else if (*received <= kReceiveBytesMin) {
      receive_bytes_ = kReceiveBytesMin;
    }
  }
  co_return receives_on_;
}

bool Session::PayloadLiesInInput(const Request& request) const {
  return input_.unread().size() >= PayloadBytes(request);
}

void Session::TakePayloadFromInput(Job& job) {
  const size_t payload_bytes = PayloadBytes(job.request);
  if (payload_bytes == 0) return;
  job.payload = input_.unread().first(payload_bytes);
  job.payload_owner = input_.owner();
  input_.Consume(payload_bytes);
}

Task<bool> Session::ReceivePayload(Job& job) {
  const size_t payload_bytes = PayloadBytes(job.request);
  if (payload_bytes <= kSharedPayloadBytesMax) {
    const bool received = co_await ReceiveAtLeast(payload_bytes);
    if (received) TakePayloadFromInput(job);
    co_return received;
  }
  receive_bytes_ =
      kReceiveBytesMin;  // the less is received in front of such a payload, the less is copied
  job.payload_owner = BufferPool::ForThisThread().Take(payload_bytes);
  auto into = job.payload_owner.bytes().first(payload_bytes);
  job.payload = into;
  const auto unread = input_.unread();
  std::memcpy(into.data(), unread.data(), unread.size());
  input_.Consume(unread.size());
  into = into.subspan(unread.size());
  is_taking_ = false;
  WakeSender();
  while (!into.empty()) {
    const auto received = co_await stream_.Receive(into);
    if (!receives_on_) co_return false;
    if (!received.ok() || *received == 0) {
      End("the connection ended in the middle of a write's data");
      co_return false;
    }
    into = into.subspan(*received);
  }
  co_return true;
}

Task<bool> Session::SkipPayload(size_t payload_bytes) {
  while (payload_bytes > 0) {
    if (input_.unread().empty()) {
      if (!co_await ReceiveAtLeast(1)) co_return false;
    }
    const size_t skipped_bytes = std::min(payload_bytes, input_.unread().size());
    input_.Consume(skipped_bytes);
    payload_bytes -= skipped_bytes;
  }
  co_return true;
}

Session::ThreadBudget& Session::ThreadBudget::OfThisThread() {
  thread_local ThreadBudget budget;
  return budget;
}

bool Session::HasOwnRoom(uint32_t memory_bytes) const {
  if (inflight_count_ == 0) return true;
  return inflight_count_ < limits_.inflight_max &&
         inflight_bytes_ + memory_bytes <= limits_.inflight_bytes_max;
}

// A client's only request waits for other clients only where it is a large one, and has a second
// budget: clients that keep the first one full, or stop in the middle of a write, do not keep it
// from its turn, unless hundreds do so at once.
bool Session::HasThreadRoom(uint32_t memory_bytes) const {
  const uint64_t taken_bytes = thread_budget_.inflight_bytes;
  const bool is_only_one = inflight_count_ == 0;
  if (taken_bytes == 0 || (is_only_one && memory_bytes <= kOnlyRequestBytes)) return true;
  return taken_bytes + memory_bytes <= limits_.thread_bytes_max * (is_only_one ? 2 : 1);
}

bool Session::HasRoom(uint32_t memory_bytes) const {
  return HasOwnRoom(memory_bytes) && HasThreadRoom(memory_bytes);
}

Task<void> Session::WaitForRoom(uint32_t memory_bytes) {
  is_taking_ = false;
  WakeSender();
  while (receives_on_ && !HasRoom(memory_bytes)) {
    WaitQueue& queue = HasOwnRoom(memory_bytes) ? thread_budget_.room : room_;
    co_await queue.Wait();
  }
}

Task<void> Session::WaitForSender() {
  is_taking_ = false;
  WakeSender();
  while (receives_on_ && unsent_bytes_ >= kUnsentBytesMax) co_await sent_.Wait();
}

void Session::TakeRoom(Job& job) {
  job.memory_bytes = MemoryBytes(job.request);
  inflight_bytes_ += job.memory_bytes;
  thread_budget_.inflight_bytes += job.memory_bytes;
}

void Session::GiveRoom(const Job& job) {
  inflight_bytes_ -= job.memory_bytes;
  thread_budget_.inflight_bytes -= job.memory_bytes;
}

// Other sessions' receivers go on in a turn of their own: they may run far.
void Session::WakeReceivers() {
  room_.WakeAll();
  if (thread_budget_.room.empty()) return;
  disk_.loop().Post([budget = &thread_budget_] { budget->room.WakeAll(); });
}

// --- Running ---

void Session::Start(std::unique_ptr<Job> job) {
  ++inflight_count_;
  StartDetached(Serve(std::move(job)));
}

void Session::Refuse(std::unique_ptr<Job> job, const Verdict& verdict) {
  ++inflight_count_;
  job->reply.Fail(job->request, verdict.error, verdict.reason, facts_.structured);
  Answer(std::move(job));
}

Task<void> Session::Serve(std::unique_ptr<Job> job) {
  bool goes_on = true;
  if (ReadPartBytes(device_, facts_, job->request) < job->request.length_bytes)
    goes_on = co_await ServeFirstParts(*job);
  if (goes_on) co_await Execute(device_, facts_, *job);
  if (!job->failure.ok()) LogFailure(*job);
  Answer(std::move(job));  // `this` may be gone afterwards
}

// Answers a long read but for its last part; false when a part failed, which is the whole's answer
// then.
Task<bool> Session::ServeFirstParts(Job& whole) {
  Request& rest = whole.request;
  while (true) {
    const uint32_t bytes = ReadPartBytes(device_, facts_, rest);
    if (bytes == rest.length_bytes) co_return true;
    auto part = std::make_unique<Job>();
    part->request = rest;
    part->request.length_bytes = bytes;
    part->more_follows = true;
    co_await Execute(device_, facts_, *part);
    if (!part->failure.ok()) {
      whole.failure = part->failure;
      whole.reply.Fail(rest, ErrorOf(part->failure, rest), Message(part->failure), true);
      co_return false;
    }
    Answer(std::move(part));
    rest.offset_bytes += bytes;
    rest.length_bytes -= bytes;
    while (!stream_is_broken_ && unsent_bytes_ >= kUnsentBytesMax) co_await sent_.Wait();
    if (stream_is_broken_) co_return false;  // nobody is there for the rest
  }
}

void Session::LogFailure(const Job& job) {
  if (ErrorOf(job.failure, job.request) == kErrNotSup)
    return;  // an answer that the client asked for
  if (++failures_logged_ > kFailuresLoggedMax) return;
  const Request& request = job.request;
  Log().warn("nbd: export {}: command {} of {} bytes at {}: {}{}", Quoted(disk_.name()),
             request.type, request.length_bytes, request.offset_bytes, Message(job.failure),
             failures_logged_ == kFailuresLoggedMax
                 ? " (the last of this client's failures that is logged)"
                 : "");
}

// --- Answering ---

void Session::Answer(std::unique_ptr<Job> job) {
  unsent_bytes_ += job->reply.data_bytes();
  answers_.push_back(std::move(job));
  if (!is_taking_) WakeSender();
}

void Session::WakeSender() { answer_waits_.WakeAll(); }

Task<void> Session::SendAnswers() {
  while (!sender_may_end_) {
    if (answers_.empty()) {
      co_await answer_waits_.Wait();
      continue;
    }
    batch_.swap(answers_);
    if (!stream_is_broken_) co_await SendBatch();
    RetireBatch();
  }
  sender_has_ended_ = true;
  sender_ended_.WakeAll();  // `this` may be gone afterwards
}

Task<void> Session::SendBatch() {
  for (size_t next = 0; next < batch_.size();) {
    pieces_.clear();
    while (next < batch_.size() && pieces_.size() < kSendPiecesMax)
      batch_[next++]->reply.AppendTo(pieces_);
    const absl::Status status = co_await stream_.Send(pieces_);
    if (status.ok()) continue;
    End("the client stopped taking answers");
    stream_is_broken_ = true;
    stream_.Shutdown();
    co_return;
  }
}

void Session::RetireBatch() {
  for (const auto& job : batch_) {
    if (!job->more_follows) --inflight_count_;
    unsent_bytes_ -= job->reply.data_bytes();
    GiveRoom(*job);
  }
  batch_.clear();
  sent_.WakeAll();
  if (inflight_count_ == 0 && !receives_on_) {
    stream_.Shutdown();  // the receiver may still wait for the client
    all_done_.WakeAll();
  }
  WakeReceivers();
}

}  // namespace cowl::nbd
