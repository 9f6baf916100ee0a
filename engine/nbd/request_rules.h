// request_rules.h: what an export offers, and whether a request is one it can take: the one place
// where requests are judged, before anything touches a device.
// Pure functions.
// Threads: any.
// Errors: a Verdict with the NBD error and a reason for the client; the stream stays in sync after
// all of them.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "nbd/codec.h"
#include "nbd/meta_context.h"

namespace cowl::nbd {

// What a request is judged by.
struct ExportFacts {
  uint64_t size_bytes = 0;
  bool read_only = false;
  bool structured = false;  // the client negotiated structured replies
  ContextSet contexts;      // and chose these
};

struct Verdict {
  Error error = kOk;
  std::string_view reason;
  bool ok() const { return error == kOk; }
};

uint16_t TransmissionFlags(const ExportFacts& facts);

// NBD_CMD_DISC never comes here.
Verdict ValidateRequest(const Request& request, const ExportFacts& facts);

// Bytes that follow the request on the wire.
uint32_t PayloadBytes(const Request& request);

// Bytes of memory that the request needs while it runs: what a client's budget counts.
uint32_t MemoryBytes(const Request& request);

// A payload that is more than the protocol lets a client send: the connection ends.
bool PayloadIsTooLarge(const Request& request);

// The error a client sees for a device's status; the table is in docs/nbd.md.
Error ErrorOf(const absl::Status& status, const Request& request);

}  // namespace cowl::nbd
