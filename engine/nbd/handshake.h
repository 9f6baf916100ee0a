// handshake.h: the server's side of the fixed newstyle handshake: bytes in, bytes out, one function
// an option; no socket.
// Ownership: the table must outlive the handshake. The handshake holds the export it opened last,
// so that INFO followed by GO speaks of one and the same disk; the hold goes on to the session with
// TakeResult, or ends with the handshake.
// Threads: one at a time, any; where AsksTable says so Step may block, and disks' loops are not for
// it. Errors: what a client gets wrong is answered as the protocol says, or ends the handshake with
// a reason; nothing asserts on it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "device/export_table.h"
#include "nbd/codec.h"
#include "nbd/meta_context.h"
#include "nbd/request_rules.h"

namespace cowl::nbd {

// What a handshake that succeeded agreed on.
struct Negotiated {
  std::shared_ptr<OpenExport> disk;
  bool structured = false;
  ContextSet contexts;
};

class Handshake {
 public:
  enum class State {
    kClientFlags,   // waits for the client's flags
    kOptions,       // waits for an option
    kTransmission,  // done: TakeResult
    kClosed,        // over: send what is left, then close; close_reason says why
  };

  // `client` names the client to the table.
  Handshake(ExportTable& table, std::string client);

  // What the server says first.
  void Greet(std::string& out) const;

  // Takes one message, or part of one it skips, off the front of `input` and appends what is to be
  // sent to `out`. Returns the bytes taken; 0: it needs more than there is (never more than
  // kInputBytesMax), or the handshake is over.
  size_t Step(std::span<const std::byte> input, std::string& out);

  // True when the next Step would ask the export table, or a disk by way of its loop: it may block,
  // and may not run on a disk's loop.
  bool AsksTable(std::span<const std::byte> input) const;

  State state() const { return state_; }
  std::string_view close_reason() const { return close_reason_; }
  // Once, in kTransmission.
  Negotiated TakeResult();

  // The longest option that is read, header included. A longer one is skipped and refused, a much
  // longer one ends the handshake.
  static constexpr size_t kOptionDataBytesMax = 64 * 1024;
  static constexpr size_t kOptionDataBytesSkipped = 1024 * 1024;
  static constexpr size_t kInputBytesMax = sizeof(WireOption) + kOptionDataBytesMax;

 private:
  size_t TakeClientFlags(std::span<const std::byte> input);
  size_t TakeOption(std::span<const std::byte> input, std::string& out);
  size_t Skip(std::span<const std::byte> input, std::string& out);
  void Dispatch(uint32_t option, std::span<const std::byte> data, std::string& out);

  void OnExportName(std::span<const std::byte> data, std::string& out);
  void OnAbort(std::string& out);
  void OnList(std::span<const std::byte> data, std::string& out);
  void OnInfo(uint32_t option, std::span<const std::byte> data, std::string& out);
  void OnStructuredReply(std::span<const std::byte> data, std::string& out);
  void OnListMetaContext(std::span<const std::byte> data, std::string& out);
  void OnSetMetaContext(std::span<const std::byte> data, std::string& out);
  void OnMetaContext(uint32_t option, std::span<const std::byte> data, std::string& out);

  void Close(std::string reason);
  void EnterTransmission(std::string_view name);
  // Opens the export of that name, unless it is the one already held.
  absl::Status Open(std::string_view name);
  bool RefuseLongName(uint32_t option, std::string_view name, std::string& out) const;
  ExportFacts Facts() const;

  ExportTable& table_;
  const std::string client_;
  State state_ = State::kClientFlags;
  std::string close_reason_;
  bool no_zeroes_ = false;
  bool structured_ = false;

  // The export held, and the name it was asked for by.
  std::shared_ptr<OpenExport> disk_;
  std::string disk_name_;

  // The contexts chosen, and the name of the export they were chosen for.
  ContextSet contexts_;
  std::string contexts_name_;

  // An option too long to read: what is left of it, and what it was.
  uint32_t skip_bytes_ = 0;
  uint32_t skipped_option_ = 0;
};

}  // namespace cowl::nbd
