#include "nbd/request_rules.h"

#include <cerrno>

#include "base/status.h"

namespace cowl::nbd {
namespace {

bool IsWrite(uint16_t type) {
  return type == kCmdWrite || type == kCmdTrim || type == kCmdWriteZeroes;
}

// The flags a command may carry. FUA is allowed on all, as the protocol asks of a server that
// offers it.
uint16_t AllowedFlags(uint16_t type, const ExportFacts& facts) {
  switch (type) {
    case kCmdRead:
      return facts.structured ? kCmdFlagFua | kCmdFlagDf : kCmdFlagFua;
    case kCmdWriteZeroes:
      return kCmdFlagFua | kCmdFlagNoHole | kCmdFlagFastZero;
    case kCmdBlockStatus:
      return kCmdFlagFua | kCmdFlagReqOne;
    default:
      return kCmdFlagFua;
  }
}

Verdict CheckRange(const Request& request, const ExportFacts& facts) {
  const bool fits = request.offset_bytes <= facts.size_bytes &&
                    request.length_bytes <= facts.size_bytes - request.offset_bytes;
  if (fits) return {};
  const bool is_full_disk = request.type == kCmdWrite || request.type == kCmdWriteZeroes;
  return {is_full_disk ? kErrNoSpc : kErrInval, "the range ends beyond the end of the export"};
}

Verdict CheckRead(const Request& request, const ExportFacts& facts) {
  if (request.length_bytes <= kPayloadBytesMax) return {};
  return {facts.structured ? kErrOverflow : kErrInval,
          "a read of more than 32 MiB: ask for less at a time"};
}

Verdict CheckFlush(const Request& request) {
  if (request.offset_bytes == 0 && request.length_bytes == 0) return {};
  return {kErrInval, "a flush takes no offset and no length"};
}

Verdict CheckBlockStatus(const Request& request, const ExportFacts& facts) {
  if (facts.contexts.empty())
    return {kErrInval, "block status without a metadata context chosen in the handshake"};
  if (request.length_bytes == 0) return {kErrInval, "block status of an empty range"};
  return {};
}

Verdict CheckCommand(const Request& request, const ExportFacts& facts) {
  switch (request.type) {
    case kCmdRead:
      return CheckRead(request, facts);
    case kCmdFlush:
      return CheckFlush(request);
    case kCmdBlockStatus:
      return CheckBlockStatus(request, facts);
    default:
      return {};
  }
}

}  // namespace

uint16_t TransmissionFlags(const ExportFacts& facts) {
  uint16_t flags =
      kFlagHasFlags | kFlagSendFlush | kFlagSendFua | kFlagCanMultiConn | kFlagSendCache;
  if (facts.structured) flags |= kFlagSendDf;
  if (facts.read_only) return flags | kFlagReadOnly;
  return flags | kFlagSendTrim | kFlagSendWriteZeroes | kFlagSendFastZero;
}

Verdict ValidateRequest(const Request& request, const ExportFacts& facts) {
  if (request.type > kCmdBlockStatus || request.type == kCmdDisc)
    return {kErrInval, "unknown command"};
  if ((request.flags & ~AllowedFlags(request.type, facts)) != 0)
    return {kErrInval, "a flag that the command does not take"};
  if (facts.read_only && IsWrite(request.type)) return {kErrPerm, "the export is read-only"};
  if (const Verdict verdict = CheckCommand(request, facts); !verdict.ok()) return verdict;
  return CheckRange(request, facts);
}

uint32_t PayloadBytes(const Request& request) {
  return request.type == kCmdWrite ? request.length_bytes : 0;
}

uint32_t MemoryBytes(const Request& request) {
  return request.type == kCmdRead || request.type == kCmdWrite ? request.length_bytes : 0;
}

bool PayloadIsTooLarge(const Request& request) { return PayloadBytes(request) > kPayloadBytesMax; }

Error ErrorOf(const absl::Status& status, const Request& request) {
  if (status.ok()) return kOk;
  if (absl::IsDataLoss(status)) return kErrIo;
  switch (StatusErrno(status)) {
    case EPERM:
    case EACCES:
    case EROFS:
      return kErrPerm;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return kErrNoSpc;
    case ENOMEM:
      return kErrNoMem;
    case EINVAL:
      return kErrInval;
    case ESHUTDOWN:
    case ECANCELED:
      return kErrShutdown;
    case EOPNOTSUPP:
      // The protocol knows this error only as "not faster than writing zeros".
      return request.type == kCmdWriteZeroes && (request.flags & kCmdFlagFastZero) != 0 ? kErrNotSup
                                                                                        : kErrInval;
    default:
      return kErrIo;
  }
}

}  // namespace cowl::nbd
