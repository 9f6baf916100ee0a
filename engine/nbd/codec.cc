#include "nbd/codec.h"

#include <algorithm>

#include "base/bytes.h"

namespace cowl::nbd {
namespace {

// An error's message in a chunk or option reply: long enough for any of ours, short enough to be
// read.
constexpr size_t kMessageBytesMax = 1024;

void AppendBytes(std::span<const std::byte> bytes, std::string& out) { out += AsText(bytes); }

void StoreChunk(std::byte* to, const Chunk& chunk) {
  StoreBig<uint32_t>(to, kStructuredReplyMagic);
  StoreBig<uint16_t>(to + offsetof(WireChunk, flags), chunk.flags);
  StoreBig<uint16_t>(to + offsetof(WireChunk, type), chunk.type);
  StoreBig<uint64_t>(to + offsetof(WireChunk, cookie), chunk.cookie);
  StoreBig<uint32_t>(to + offsetof(WireChunk, payload_bytes), chunk.payload_bytes);
}

uint16_t DoneFlag(bool done) { return done ? kReplyFlagDone : 0; }

}  // namespace

template <typename T>
std::optional<T> WireReader::Integer() {
  const auto bytes = Bytes(sizeof(T));
  if (!bytes) return std::nullopt;
  return LoadBig<T>(bytes->data());
}

std::optional<uint16_t> WireReader::U16() { return Integer<uint16_t>(); }
std::optional<uint32_t> WireReader::U32() { return Integer<uint32_t>(); }
std::optional<uint64_t> WireReader::U64() { return Integer<uint64_t>(); }

std::optional<std::span<const std::byte>> WireReader::Bytes(size_t count) {
  if (failed_ || count > bytes_.size()) {
    failed_ = true;
    return std::nullopt;
  }
  const auto taken = bytes_.first(count);
  bytes_ = bytes_.subspan(count);
  return taken;
}

std::optional<std::string_view> WireReader::Text() {
  const auto size = U32();
  if (!size) return std::nullopt;
  const auto bytes = Bytes(*size);
  if (!bytes) return std::nullopt;
  return AsText(*bytes);
}

WireWriter& WireWriter::U16(uint16_t value) {
  std::array<std::byte, sizeof(value)> bytes;
  StoreBig(bytes.data(), value);
  AppendBytes(bytes, out_);
  return *this;
}

WireWriter& WireWriter::U32(uint32_t value) {
  std::array<std::byte, sizeof(value)> bytes;
  StoreBig(bytes.data(), value);
  AppendBytes(bytes, out_);
  return *this;
}

WireWriter& WireWriter::U64(uint64_t value) {
  std::array<std::byte, sizeof(value)> bytes;
  StoreBig(bytes.data(), value);
  AppendBytes(bytes, out_);
  return *this;
}

WireWriter& WireWriter::Text(std::string_view text) {
  out_ += text;
  return *this;
}

WireWriter& WireWriter::Zeroes(size_t count) {
  out_.append(count, '\0');
  return *this;
}

void AppendGreeting(uint16_t flags, std::string& out) {
  WireWriter(out).U64(kGreetingMagic).U64(kOptionMagic).U16(flags);
}

void AppendOption(uint32_t option, std::string_view data, std::string& out) {
  WireWriter(out).U64(kOptionMagic).U32(option).U32(static_cast<uint32_t>(data.size())).Text(data);
}

void AppendOptionReply(uint32_t option, uint32_t type, std::string_view data, std::string& out) {
  WireWriter(out)
      .U64(kOptionReplyMagic)
      .U32(option)
      .U32(type)
      .U32(static_cast<uint32_t>(data.size()))
      .Text(data);
}

std::optional<OptionHeader> DecodeOptionHeader(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(WireOption) || LoadBig<uint64_t>(bytes.data()) != kOptionMagic)
    return std::nullopt;
  return OptionHeader{LoadBig<uint32_t>(bytes.data() + offsetof(WireOption, option)),
                      LoadBig<uint32_t>(bytes.data() + offsetof(WireOption, data_bytes))};
}

std::optional<OptionReplyHeader> DecodeOptionReplyHeader(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(WireOptionReply) ||
      LoadBig<uint64_t>(bytes.data()) != kOptionReplyMagic)
    return std::nullopt;
  return OptionReplyHeader{LoadBig<uint32_t>(bytes.data() + offsetof(WireOptionReply, option)),
                           LoadBig<uint32_t>(bytes.data() + offsetof(WireOptionReply, type)),
                           LoadBig<uint32_t>(bytes.data() + offsetof(WireOptionReply, data_bytes))};
}

std::optional<InfoQuery> DecodeInfoQuery(std::span<const std::byte> data) {
  WireReader reader(data);
  const auto name = reader.Text();
  const auto count = reader.U16();
  if (!name || !count || reader.left() != *count * sizeof(uint16_t)) return std::nullopt;
  InfoQuery query{*name, {}};
  query.requests.reserve(*count);
  for (uint16_t i = 0; i < *count; ++i) query.requests.push_back(*reader.U16());
  return query;
}

std::optional<MetaContextQuery> DecodeMetaContextQuery(std::span<const std::byte> data) {
  WireReader reader(data);
  const auto name = reader.Text();
  const auto count = reader.U32();
  // Each query has a length at least, so a count that the data cannot hold is known before anything
  // is reserved.
  if (!name || !count || *count > reader.left() / sizeof(uint32_t)) return std::nullopt;
  MetaContextQuery query{*name, {}};
  query.queries.reserve(*count);
  for (uint32_t i = 0; i < *count; ++i) {
    const auto text = reader.Text();
    if (!text) return std::nullopt;
    query.queries.push_back(*text);
  }
  if (reader.left() != 0) return std::nullopt;
  return query;
}

std::string EncodeInfoQuery(const InfoQuery& query) {
  std::string data;
  WireWriter writer(data);
  writer.U32(static_cast<uint32_t>(query.name.size()))
      .Text(query.name)
      .U16(static_cast<uint16_t>(query.requests.size()));
  for (const uint16_t request : query.requests) writer.U16(request);
  return data;
}

std::string EncodeMetaContextQuery(const MetaContextQuery& query) {
  std::string data;
  WireWriter writer(data);
  writer.U32(static_cast<uint32_t>(query.name.size()))
      .Text(query.name)
      .U32(static_cast<uint32_t>(query.queries.size()));
  for (const std::string_view text : query.queries)
    writer.U32(static_cast<uint32_t>(text.size())).Text(text);
  return data;
}

std::optional<Request> DecodeRequest(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(WireRequest) || LoadBig<uint32_t>(bytes.data()) != kRequestMagic)
    return std::nullopt;
  const std::byte* const from = bytes.data();
  return Request{LoadBig<uint16_t>(from + offsetof(WireRequest, flags)),
                 LoadBig<uint16_t>(from + offsetof(WireRequest, type)),
                 LoadBig<uint64_t>(from + offsetof(WireRequest, cookie)),
                 LoadBig<uint64_t>(from + offsetof(WireRequest, offset_bytes)),
                 LoadBig<uint32_t>(from + offsetof(WireRequest, length_bytes))};
}

std::optional<SimpleReply> DecodeSimpleReply(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(WireSimpleReply) ||
      LoadBig<uint32_t>(bytes.data()) != kSimpleReplyMagic)
    return std::nullopt;
  return SimpleReply{LoadBig<uint32_t>(bytes.data() + offsetof(WireSimpleReply, error)),
                     LoadBig<uint64_t>(bytes.data() + offsetof(WireSimpleReply, cookie))};
}

std::optional<Chunk> DecodeChunk(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(WireChunk) || LoadBig<uint32_t>(bytes.data()) != kStructuredReplyMagic)
    return std::nullopt;
  const std::byte* const from = bytes.data();
  return Chunk{LoadBig<uint16_t>(from + offsetof(WireChunk, flags)),
               LoadBig<uint16_t>(from + offsetof(WireChunk, type)),
               LoadBig<uint64_t>(from + offsetof(WireChunk, cookie)),
               LoadBig<uint32_t>(from + offsetof(WireChunk, payload_bytes))};
}

RequestBytes EncodeRequest(const Request& request) {
  RequestBytes bytes;
  StoreBig<uint32_t>(bytes.data(), kRequestMagic);
  StoreBig<uint16_t>(bytes.data() + offsetof(WireRequest, flags), request.flags);
  StoreBig<uint16_t>(bytes.data() + offsetof(WireRequest, type), request.type);
  StoreBig<uint64_t>(bytes.data() + offsetof(WireRequest, cookie), request.cookie);
  StoreBig<uint64_t>(bytes.data() + offsetof(WireRequest, offset_bytes), request.offset_bytes);
  StoreBig<uint32_t>(bytes.data() + offsetof(WireRequest, length_bytes), request.length_bytes);
  return bytes;
}

SimpleReplyBytes EncodeSimpleReply(const SimpleReply& reply) {
  SimpleReplyBytes bytes;
  StoreBig<uint32_t>(bytes.data(), kSimpleReplyMagic);
  StoreBig<uint32_t>(bytes.data() + offsetof(WireSimpleReply, error), reply.error);
  StoreBig<uint64_t>(bytes.data() + offsetof(WireSimpleReply, cookie), reply.cookie);
  return bytes;
}

ChunkBytes EncodeChunk(const Chunk& chunk) {
  ChunkBytes bytes;
  StoreChunk(bytes.data(), chunk);
  return bytes;
}

std::array<std::byte, sizeof(WireOffsetData)> EncodeOffsetDataHead(uint64_t cookie, bool done,
                                                                   uint64_t offset_bytes,
                                                                   uint32_t data_bytes) {
  constexpr uint32_t kOffsetBytes = sizeof(WireOffsetData) - sizeof(WireChunk);
  std::array<std::byte, sizeof(WireOffsetData)> bytes;
  StoreChunk(bytes.data(), {DoneFlag(done), kChunkOffsetData, cookie, kOffsetBytes + data_bytes});
  StoreBig<uint64_t>(bytes.data() + offsetof(WireOffsetData, offset_bytes), offset_bytes);
  return bytes;
}

std::array<std::byte, sizeof(WireOffsetHole)> EncodeOffsetHole(uint64_t cookie, bool done,
                                                               uint64_t offset_bytes,
                                                               uint32_t hole_bytes) {
  std::array<std::byte, sizeof(WireOffsetHole)> bytes;
  StoreChunk(bytes.data(), {DoneFlag(done), kChunkOffsetHole, cookie,
                            sizeof(WireOffsetHole) - sizeof(WireChunk)});
  StoreBig<uint64_t>(bytes.data() + offsetof(WireOffsetHole, offset_bytes), offset_bytes);
  StoreBig<uint32_t>(bytes.data() + offsetof(WireOffsetHole, hole_bytes), hole_bytes);
  return bytes;
}

void AppendErrorChunk(uint64_t cookie, uint32_t error, std::string_view message, std::string& out) {
  message = message.substr(0, kStringBytesMax);
  const auto payload_bytes =
      static_cast<uint32_t>(sizeof(WireErrorHead) - sizeof(WireChunk) + message.size());
  AppendBytes(EncodeChunk({kReplyFlagDone, kChunkError, cookie, payload_bytes}), out);
  WireWriter(out).U32(error).U16(static_cast<uint16_t>(message.size())).Text(message);
}

void AppendStatusChunk(uint64_t cookie, bool done, uint32_t context_id,
                       std::span<const StatusExtent> extents, std::string& out) {
  const auto payload_bytes =
      static_cast<uint32_t>(sizeof(context_id) + extents.size() * sizeof(WireExtent));
  AppendBytes(EncodeChunk({DoneFlag(done), kChunkBlockStatus, cookie, payload_bytes}), out);
  WireWriter writer(out);
  writer.U32(context_id);
  for (const StatusExtent& extent : extents) writer.U32(extent.length_bytes).U32(extent.status);
}

std::string WireText(std::string_view text) {
  std::string fit(text.substr(0, kMessageBytesMax));
  std::replace_if(
      fit.begin(), fit.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return fit;
}

}  // namespace cowl::nbd
