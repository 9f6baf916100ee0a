// session.h: the transmission phase of one client: takes requests off the stream, runs them side by
// side on the device, and sends what has been answered, many answers at a time.
// Units: bytes.
// Ownership: stream, export and limits outlive the session, and the session its Run.
// Threads: the export's loop, all of it, without a lock.
// Errors: those of a request go to the client; those of the stream end the session.
// Order: as of block_device.h; answers go out as requests finish, in any order.
// Drain: what has been started is finished and answered; what the client sent meanwhile is left,
// unanswered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "device/export_table.h"
#include "io/loop.h"
#include "io/socket.h"
#include "nbd/command.h"
#include "nbd/handshake.h"
#include "nbd/input_buffer.h"

namespace cowl::nbd {

struct SessionLimits {
  // Requests of one client that run at once; beyond it nothing more is received from it.
  size_t inflight_max = 128;
  // Bytes that these hold in memory, with a write whose data is still on its way. One request alone
  // may pass it.
  uint64_t inflight_bytes_max = 64 * kMiB;
  // The same for all clients of one thread together: so that many of them cannot take the host's
  // memory. Each may always have one request under way; those of more than 2 MiB may take as much
  // again, all together.
  uint64_t thread_bytes_max = 256 * kMiB;
};

class Session {
 public:
  // `received`: what the client sent behind the handshake.
  Session(Stream& stream, OpenExport& disk, const ExportFacts& facts, const SessionLimits& limits,
          std::span<const std::byte> received);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Ends when the client has left or was sent away, and nothing of it is in flight any more.
  Task<void> Run();

  // Lets Run end soon: after what was started has been answered.
  void Drain();
  // Lets Run end at once, but for what the device is still busy with.
  void Abort();

  // Why the session ended; empty: the client said goodbye.
  const std::string& end_reason() const { return end_reason_; }

 private:
  // Receiving.
  Task<void> ReceiveRequests();
  void ExpectReads();
  Task<bool> ReceiveAtLeast(size_t unread_bytes_wanted);
  Task<bool> ReceivePayload(Job& job);
  Task<bool> SkipPayload(size_t payload_bytes);
  Task<void> WaitForRoom(uint32_t memory_bytes);
  Task<void> WaitForSender();
  bool HasOwnRoom(uint32_t memory_bytes) const;
  bool HasThreadRoom(uint32_t memory_bytes) const;
  bool HasRoom(uint32_t memory_bytes) const;
  void TakeRoom(Job& job);
  void GiveRoom(const Job& job);
  void WakeReceivers();
  bool PayloadLiesInInput(const Request& request) const;
  void TakePayloadFromInput(Job& job);
  bool ReadsOn(const Request* request);
  void End(std::string reason);

  // Running.
  void Start(std::unique_ptr<Job> job);
  void Refuse(std::unique_ptr<Job> job, const Verdict& verdict);
  Task<void> Serve(std::unique_ptr<Job> job);
  Task<bool> ServeFirstParts(Job& whole);
  void LogFailure(const Job& job);

  // Answering.
  void Answer(std::unique_ptr<Job> job);
  void WakeSender();
  Task<void> SendAnswers();
  Task<void> SendBatch();
  void RetireBatch();

  Stream& stream_;
  OpenExport& disk_;
  BlockDevice& device_;
  ExportFacts facts_;
  const SessionLimits limits_;
  std::string end_reason_;
  size_t failures_logged_ = 0;

  InputBuffer input_;
  size_t receive_bytes_;       // of the next receive's block
  bool receives_on_ = true;    // false: nothing more is taken off the stream
  size_t expected_reads_ = 0;  // of the next requests, those that the device was told of
  // In the middle of the requests of one receive: their answers wait for each other.
  bool is_taking_ = false;

  // Requests that were started and whose answer has not been sent.
  size_t inflight_count_ = 0;
  size_t unsent_bytes_ = 0;      // of buffers in answers
  uint64_t inflight_bytes_ = 0;  // theirs, and those of a write that is being received
  // What all sessions of this thread have under way, and their receivers that wait for less of it.
  struct ThreadBudget {
    uint64_t inflight_bytes = 0;
    WaitQueue room;
    static ThreadBudget& OfThisThread();
  };
  ThreadBudget& thread_budget_;
  WaitQueue room_;      // our receiver, for less of our own
  WaitQueue sent_;      // it, and reads between their parts, for less unsent data
  WaitQueue all_done_;  // Run, for none

  std::vector<std::unique_ptr<Job>> answers_;  // finished, waiting for the sender
  std::vector<std::unique_ptr<Job>> batch_;    // with the sender
  std::vector<iovec> pieces_;
  bool stream_is_broken_ = false;  // answers are dropped
  bool sender_may_end_ = false;
  bool sender_has_ended_ = false;
  WaitQueue answer_waits_;
  WaitQueue sender_ended_;
};

}  // namespace cowl::nbd
