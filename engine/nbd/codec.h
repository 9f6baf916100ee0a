// codec.h: bytes of the NBD wire to values and back.
// Pure functions.
// Ownership: decoded spans and texts point into the input.
// Threads: any.
// Errors: nothing here asserts on what came over the wire; what does not decode is an empty
// optional.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nbd/protocol.h"

namespace cowl::nbd {

// Takes integers and bytes off the front of a message. After the first read that does not fit,
// every read is empty.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::optional<uint16_t> U16();
  std::optional<uint32_t> U32();
  std::optional<uint64_t> U64();
  std::optional<std::span<const std::byte>> Bytes(size_t count);
  // A length of 32 bits, then as many bytes of text.
  std::optional<std::string_view> Text();
  size_t left() const { return bytes_.size(); }

 private:
  template <typename T>
  std::optional<T> Integer();

  std::span<const std::byte> bytes_;
  bool failed_ = false;
};

// Appends integers and bytes to a message.
class WireWriter {
 public:
  explicit WireWriter(std::string& out) : out_(out) {}

  WireWriter& U16(uint16_t value);
  WireWriter& U32(uint32_t value);
  WireWriter& U64(uint64_t value);
  WireWriter& Text(std::string_view text);  // the bytes alone
  WireWriter& Zeroes(size_t count);

 private:
  std::string& out_;
};

// --- Handshake ---

struct OptionHeader {
  uint32_t option = 0;
  uint32_t data_bytes = 0;
  bool operator==(const OptionHeader&) const = default;
};

struct OptionReplyHeader {
  uint32_t option = 0;
  uint32_t type = 0;
  uint32_t data_bytes = 0;
  bool operator==(const OptionReplyHeader&) const = default;
};

// Data of NBD_OPT_INFO and NBD_OPT_GO.
struct InfoQuery {
  std::string_view name;
  std::vector<uint16_t> requests;
};

// Data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
struct MetaContextQuery {
  std::string_view name;
  std::vector<std::string_view> queries;
};

void AppendGreeting(uint16_t flags, std::string& out);
void AppendOption(uint32_t option, std::string_view data, std::string& out);
void AppendOptionReply(uint32_t option, uint32_t type, std::string_view data, std::string& out);

// Empty when there are too few bytes or the magic is another.
std::optional<OptionHeader> DecodeOptionHeader(std::span<const std::byte> bytes);
std::optional<OptionReplyHeader> DecodeOptionReplyHeader(std::span<const std::byte> bytes);

// Empty when the data is too short, too long, or a length inside it does not fit.
std::optional<InfoQuery> DecodeInfoQuery(std::span<const std::byte> data);
std::optional<MetaContextQuery> DecodeMetaContextQuery(std::span<const std::byte> data);
std::string EncodeInfoQuery(const InfoQuery& query);
std::string EncodeMetaContextQuery(const MetaContextQuery& query);

// --- Transmission ---

struct Request {
  uint16_t flags = 0;
  uint16_t type = 0;
  uint64_t cookie = 0;
  uint64_t offset_bytes = 0;
  uint32_t length_bytes = 0;
  bool operator==(const Request&) const = default;
};

struct SimpleReply {
  uint32_t error = 0;
  uint64_t cookie = 0;
  bool operator==(const SimpleReply&) const = default;
};

struct Chunk {
  uint16_t flags = 0;
  uint16_t type = 0;
  uint64_t cookie = 0;
  uint32_t payload_bytes = 0;
  bool operator==(const Chunk&) const = default;
};

struct StatusExtent {
  uint32_t length_bytes = 0;
  uint32_t status = 0;
  bool operator==(const StatusExtent&) const = default;
};

using RequestBytes = std::array<std::byte, sizeof(WireRequest)>;
using SimpleReplyBytes = std::array<std::byte, sizeof(WireSimpleReply)>;
using ChunkBytes = std::array<std::byte, sizeof(WireChunk)>;

// Empty when there are too few bytes or the magic is another.
std::optional<Request> DecodeRequest(std::span<const std::byte> bytes);
std::optional<SimpleReply> DecodeSimpleReply(std::span<const std::byte> bytes);
std::optional<Chunk> DecodeChunk(std::span<const std::byte> bytes);

RequestBytes EncodeRequest(const Request& request);
SimpleReplyBytes EncodeSimpleReply(const SimpleReply& reply);
ChunkBytes EncodeChunk(const Chunk& chunk);

// Whole chunks but for the data that follows the first. `done`: the last of its reply.
std::array<std::byte, sizeof(WireOffsetData)> EncodeOffsetDataHead(uint64_t cookie, bool done,
                                                                   uint64_t offset_bytes,
                                                                   uint32_t data_bytes);
std::array<std::byte, sizeof(WireOffsetHole)> EncodeOffsetHole(uint64_t cookie, bool done,
                                                               uint64_t offset_bytes,
                                                               uint32_t hole_bytes);
// `message` is cut to what the protocol allows.
void AppendErrorChunk(uint64_t cookie, uint32_t error, std::string_view message, std::string& out);
void AppendStatusChunk(uint64_t cookie, bool done, uint32_t context_id,
                       std::span<const StatusExtent> extents, std::string& out);

// `text` fit for a message to a client: printable ASCII, anything else as '?', at most the
// protocol's length.
std::string WireText(std::string_view text);

}  // namespace cowl::nbd
