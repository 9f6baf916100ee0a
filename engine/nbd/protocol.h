// protocol.h: the numbers of the NBD protocol (doc/proto.md of the NetworkBlockDevice project) and
// the layout of its fixed headers.
// Units: every integer on the wire is big endian; the structs here show where a field lies and are
// never filled in place: codec.h packs and unpacks them. Ownership, threads, errors: none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/units.h"

namespace cowl::nbd {

// --- Handshake ---

inline constexpr uint64_t kGreetingMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr uint64_t kOptionMagic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr uint64_t kOptionReplyMagic = 0x0003e889045565a9;

enum HandshakeFlag : uint16_t {
  kFlagFixedNewstyle = 1 << 0,
  kFlagNoZeroes = 1 << 1,
};

enum ClientFlag : uint32_t {
  kClientFixedNewstyle = 1 << 0,
  kClientNoZeroes = 1 << 1,
};

enum TransmissionFlag : uint16_t {
  kFlagHasFlags = 1 << 0,
  kFlagReadOnly = 1 << 1,
  kFlagSendFlush = 1 << 2,
  kFlagSendFua = 1 << 3,
  kFlagRotational = 1 << 4,
  kFlagSendTrim = 1 << 5,
  kFlagSendWriteZeroes = 1 << 6,
  kFlagSendDf = 1 << 7,
  kFlagCanMultiConn = 1 << 8,
  kFlagSendResize = 1 << 9,
  kFlagSendCache = 1 << 10,
  kFlagSendFastZero = 1 << 11,
};

enum Option : uint32_t {
  kOptExportName = 1,
  kOptAbort = 2,
  kOptList = 3,
  kOptStartTls = 5,
  kOptInfo = 6,
  kOptGo = 7,
  kOptStructuredReply = 8,
  kOptListMetaContext = 9,
  kOptSetMetaContext = 10,
  kOptExtendedHeaders = 11,
};

inline constexpr uint32_t kReplyErrorBit = 1u << 31;

enum OptionReply : uint32_t {
  kRepAck = 1,
  kRepServer = 2,
  kRepInfo = 3,
  kRepMetaContext = 4,
  kRepErrUnsup = kReplyErrorBit + 1,
  kRepErrPolicy = kReplyErrorBit + 2,
  kRepErrInvalid = kReplyErrorBit + 3,
  kRepErrPlatform = kReplyErrorBit + 4,
  kRepErrTlsReqd = kReplyErrorBit + 5,
  kRepErrUnknown = kReplyErrorBit + 6,
  kRepErrShutdown = kReplyErrorBit + 7,
  kRepErrBlockSizeReqd = kReplyErrorBit + 8,
  kRepErrTooBig = kReplyErrorBit + 9,
};

enum Info : uint16_t {
  kInfoExport = 0,
  kInfoName = 1,
  kInfoDescription = 2,
  kInfoBlockSize = 3,
};

// --- Transmission ---

inline constexpr uint32_t kRequestMagic = 0x25609513;
inline constexpr uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr uint32_t kStructuredReplyMagic = 0x668e33ef;

enum Command : uint16_t {
  kCmdRead = 0,
  kCmdWrite = 1,
  kCmdDisc = 2,
  kCmdFlush = 3,
  kCmdTrim = 4,
  kCmdCache = 5,
  kCmdWriteZeroes = 6,
  kCmdBlockStatus = 7,
};

enum CommandFlag : uint16_t {
  kCmdFlagFua = 1 << 0,
  kCmdFlagNoHole = 1 << 1,
  kCmdFlagDf = 1 << 2,
  kCmdFlagReqOne = 1 << 3,
  kCmdFlagFastZero = 1 << 4,
};

inline constexpr uint16_t kReplyFlagDone = 1 << 0;

enum ChunkType : uint16_t {
  kChunkNone = 0,
  kChunkOffsetData = 1,
  kChunkOffsetHole = 2,
  kChunkBlockStatus = 5,
  kChunkError = (1 << 15) + 1,
  kChunkErrorOffset = (1 << 15) + 2,
};

enum Error : uint32_t {
  kOk = 0,
  kErrPerm = 1,
  kErrIo = 5,
  kErrNoMem = 12,
  kErrInval = 22,
  kErrNoSpc = 28,
  kErrOverflow = 75,
  kErrNotSup = 95,
  kErrShutdown = 108,
};

// Values of the base:allocation context.
enum AllocationState : uint32_t {
  kStateHole = 1 << 0,
  kStateZero = 1 << 1,
};

// --- Layout ---

struct [[gnu::packed]] WireGreeting {
  uint64_t magic;
  uint64_t option_magic;
  uint16_t flags;
};

struct [[gnu::packed]] WireOption {
  uint64_t magic;
  uint32_t option;
  uint32_t data_bytes;
};

struct [[gnu::packed]] WireOptionReply {
  uint64_t magic;
  uint32_t option;
  uint32_t type;
  uint32_t data_bytes;
};

struct [[gnu::packed]] WireRequest {
  uint32_t magic;
  uint16_t flags;
  uint16_t type;
  uint64_t cookie;
  uint64_t offset_bytes;
  uint32_t length_bytes;
};

struct [[gnu::packed]] WireSimpleReply {
  uint32_t magic;
  uint32_t error;
  uint64_t cookie;
};

struct [[gnu::packed]] WireChunk {
  uint32_t magic;
  uint16_t flags;
  uint16_t type;
  uint64_t cookie;
  uint32_t payload_bytes;
};

struct [[gnu::packed]] WireOffsetData {
  WireChunk chunk;
  uint64_t offset_bytes;  // and then the data
};

struct [[gnu::packed]] WireOffsetHole {
  WireChunk chunk;
  uint64_t offset_bytes;
  uint32_t hole_bytes;
};

struct [[gnu::packed]] WireStatusHead {
  WireChunk chunk;
  uint32_t context_id;  // and then one or more WireExtent
};

struct [[gnu::packed]] WireExtent {
  uint32_t length_bytes;
  uint32_t status;
};

struct [[gnu::packed]] WireErrorHead {
  WireChunk chunk;
  uint32_t error;
  uint16_t message_bytes;  // and then the message
};

static_assert(sizeof(WireGreeting) == 18 && offsetof(WireGreeting, flags) == 16);
static_assert(sizeof(WireOption) == 16 && offsetof(WireOption, data_bytes) == 12);
static_assert(sizeof(WireOptionReply) == 20 && offsetof(WireOptionReply, data_bytes) == 16);
static_assert(sizeof(WireRequest) == 28 && offsetof(WireRequest, cookie) == 8 &&
              offsetof(WireRequest, length_bytes) == 24);
static_assert(sizeof(WireSimpleReply) == 16 && offsetof(WireSimpleReply, cookie) == 8);
static_assert(sizeof(WireChunk) == 20 && offsetof(WireChunk, payload_bytes) == 16);
static_assert(sizeof(WireOffsetData) == 28 && sizeof(WireOffsetHole) == 32 &&
              sizeof(WireStatusHead) == 24);
static_assert(sizeof(WireExtent) == 8 && sizeof(WireErrorHead) == 26);

// --- Limits ---

inline constexpr size_t kStringBytesMax =
    4096;  // names, queries, messages: the protocol's own bound

// The sizes the server tells its clients.
inline constexpr uint32_t kMinimumBlockBytes = 1;
inline constexpr uint32_t kPreferredBlockBytes = kBlockBytes;
inline constexpr uint32_t kPayloadBytesMax = 32 * kMiB;

}  // namespace cowl::nbd
