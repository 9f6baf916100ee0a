#include "nbd/handshake.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "cowl/names.h"

namespace cowl::nbd {
namespace {

constexpr size_t kExportNameReservedBytes = 124;

void Ack(uint32_t option, std::string& out) { AppendOptionReply(option, kRepAck, {}, out); }

void Refuse(uint32_t option, OptionReply type, std::string_view message, std::string& out) {
  AppendOptionReply(option, type, WireText(message), out);
}

// Why an export could not be opened, as an option's reply says it.
OptionReply RefusalOf(const absl::Status& status) {
  if (absl::IsPermissionDenied(status)) return kRepErrPolicy;
  if (absl::IsUnavailable(status) || absl::IsCancelled(status)) return kRepErrShutdown;
  return kRepErrUnknown;
}

bool Holds(const std::vector<uint16_t>& requests, Info info) {
  return std::find(requests.begin(), requests.end(), info) != requests.end();
}

void AppendInfo(uint32_t option, Info info, std::string_view payload, std::string& out) {
  std::string data;
  WireWriter(data).U16(info).Text(payload);
  AppendOptionReply(option, kRepInfo, data, out);
}

std::string ExportInfo(uint64_t size_bytes, uint16_t flags) {
  std::string payload;
  WireWriter(payload).U64(size_bytes).U16(flags);
  return payload;
}

std::string BlockSizeInfo() {
  std::string payload;
  WireWriter(payload).U32(kMinimumBlockBytes).U32(kPreferredBlockBytes).U32(kPayloadBytesMax);
  return payload;
}

void AppendServer(const ExportTable::Entry& entry, std::string& out) {
  std::string data;
  WireWriter(data)
      .U32(static_cast<uint32_t>(entry.name.size()))
      .Text(entry.name)
      .Text(entry.description);
  AppendOptionReply(kOptList, kRepServer, data, out);
}

// The contexts that the queries of a list or a choice mean; empty when a query is no query.
std::optional<ContextSet> Matched(const std::vector<std::string_view>& queries, bool is_list) {
  if (queries.empty()) return is_list ? ContextSet::All() : ContextSet();
  ContextSet all;
  for (const std::string_view query : queries) {
    const auto matched = MatchContexts(query, is_list);
    if (!matched) return std::nullopt;
    all.Add(*matched);
  }
  return all;
}

Task<ExportFacts> LookAt(BlockDevice& device, bool structured, ContextSet contexts) {
  co_return ExportFacts{device.size_bytes(), device.read_only(), structured, contexts};
}

bool MayAskTable(uint32_t option) {
  switch (option) {
    case kOptExportName:
    case kOptList:
    case kOptInfo:
    case kOptGo:
    case kOptListMetaContext:
    case kOptSetMetaContext:
      return true;
    default:
      return false;
  }
}

}  // namespace

Handshake::Handshake(ExportTable& table, std::string client)
    : table_(table), client_(std::move(client)) {}

void Handshake::Greet(std::string& out) const {
  AppendGreeting(kFlagFixedNewstyle | kFlagNoZeroes, out);
}

size_t Handshake::Step(std::span<const std::byte> input, std::string& out) {
  if (state_ == State::kClientFlags) return TakeClientFlags(input);
  if (state_ != State::kOptions) return 0;
  return skip_bytes_ > 0 ? Skip(input, out) : TakeOption(input, out);
}

bool Handshake::AsksTable(std::span<const std::byte> input) const {
  if (state_ != State::kOptions || skip_bytes_ > 0) return false;
  const auto header = DecodeOptionHeader(input);
  return header && MayAskTable(header->option) &&
         input.size() - sizeof(WireOption) >= header->data_bytes;
}

Negotiated Handshake::TakeResult() {
  COWL_CHECK(state_ == State::kTransmission);
  return {std::move(disk_), structured_, contexts_};
}

size_t Handshake::TakeClientFlags(std::span<const std::byte> input) {
  WireReader reader(input);
  const auto flags = reader.U32();
  if (!flags) return 0;
  if ((*flags & ~uint32_t{kClientFixedNewstyle | kClientNoZeroes}) != 0) {
    Close(absl::StrCat("unknown client flags 0x", absl::Hex(*flags)));
  } else {
    no_zeroes_ = (*flags & kClientNoZeroes) != 0;
    state_ = State::kOptions;
  }
  return sizeof(*flags);
}

size_t Handshake::TakeOption(std::span<const std::byte> input, std::string& out) {
  if (input.size() < sizeof(WireOption)) return 0;
  const auto header = DecodeOptionHeader(input);
  if (!header) {
    Close("an option that does not start with the magic number");
    return sizeof(WireOption);
  }
  if (header->data_bytes > kOptionDataBytesSkipped) {
    Close(absl::StrCat("option ", header->option, " with ", header->data_bytes, " bytes of data"));
    return sizeof(WireOption);
  }
  if (header->data_bytes > kOptionDataBytesMax) {
    skip_bytes_ = header->data_bytes;
    skipped_option_ = header->option;
    return sizeof(WireOption);
  }
  const size_t message_bytes = sizeof(WireOption) + header->data_bytes;
  if (input.size() < message_bytes) return 0;
  Dispatch(header->option, input.subspan(sizeof(WireOption), header->data_bytes), out);
  return message_bytes;
}

size_t Handshake::Skip(std::span<const std::byte> input, std::string& out) {
  const auto taken_bytes = static_cast<uint32_t>(std::min<size_t>(skip_bytes_, input.size()));
  skip_bytes_ -= taken_bytes;
  if (skip_bytes_ > 0 || taken_bytes == 0) return taken_bytes;
  if (skipped_option_ == kOptExportName) {
    Close("an export name that is too long");
  } else if (skipped_option_ == kOptAbort) {
    OnAbort(out);
  } else {
    if (skipped_option_ == kOptSetMetaContext) contexts_ = {};
    Refuse(skipped_option_, kRepErrTooBig, "the option's data is longer than 64 KiB", out);
  }
  return taken_bytes;
}

void Handshake::Dispatch(uint32_t option, std::span<const std::byte> data, std::string& out) {
  switch (option) {
    case kOptExportName:
      return OnExportName(data, out);
    case kOptAbort:
      return OnAbort(out);
    case kOptList:
      return OnList(data, out);
    case kOptStartTls:
      return Refuse(option, kRepErrUnsup, "this server has no TLS", out);
    case kOptInfo:
    case kOptGo:
      return OnInfo(option, data, out);
    case kOptStructuredReply:
      return OnStructuredReply(data, out);
    case kOptListMetaContext:
      return OnListMetaContext(data, out);
    case kOptSetMetaContext:
      return OnSetMetaContext(data, out);
    default:
      return Refuse(option, kRepErrUnsup, absl::StrCat("option ", option, " is not supported"),
                    out);
  }
}

// The one option without an error reply: a refusal is the end of the connection.
void Handshake::OnExportName(std::span<const std::byte> data, std::string& out) {
  const std::string_view name = AsText(data);
  if (name.size() > kStringBytesMax) return Close("an export name that is too long");
  if (const absl::Status status = Open(name); !status.ok()) return Close(Message(status));
  const ExportFacts facts = Facts();
  WireWriter writer(out);
  writer.U64(facts.size_bytes).U16(TransmissionFlags(facts));
  if (!no_zeroes_) writer.Zeroes(kExportNameReservedBytes);
  EnterTransmission(name);
}

void Handshake::OnAbort(std::string& out) {
  Ack(kOptAbort, out);
  Close("the client ended the handshake");
}

void Handshake::OnList(std::span<const std::byte> data, std::string& out) {
  if (!data.empty()) return Refuse(kOptList, kRepErrInvalid, "NBD_OPT_LIST takes no data", out);
  const auto entries = table_.List();
  if (!entries.ok())
    return Refuse(kOptList, RefusalOf(entries.status()), Message(entries.status()), out);
  for (const ExportTable::Entry& entry : *entries) {
    const bool is_sayable =
        entry.name.size() <= kStringBytesMax && entry.description.size() <= kStringBytesMax;
    if (is_sayable) AppendServer(entry, out);
  }
  Ack(kOptList, out);
}

void Handshake::OnInfo(uint32_t option, std::span<const std::byte> data, std::string& out) {
  const auto query = DecodeInfoQuery(data);
  if (!query)
    return Refuse(option, kRepErrInvalid, "the lengths inside the option do not fit its data", out);
  if (RefuseLongName(option, query->name, out)) return;
  if (const absl::Status status = Open(query->name); !status.ok()) {
    return Refuse(option, RefusalOf(status), Message(status), out);
  }
  const ExportFacts facts = Facts();
  AppendInfo(option, kInfoExport, ExportInfo(facts.size_bytes, TransmissionFlags(facts)), out);
  if (Holds(query->requests, kInfoName)) AppendInfo(option, kInfoName, disk_->name(), out);
  if (Holds(query->requests, kInfoDescription))
    AppendInfo(option, kInfoDescription, disk_->description(), out);
  if (Holds(query->requests, kInfoBlockSize))
    AppendInfo(option, kInfoBlockSize, BlockSizeInfo(), out);
  Ack(option, out);
  if (option == kOptGo) EnterTransmission(query->name);
}

void Handshake::OnStructuredReply(std::span<const std::byte> data, std::string& out) {
  if (!data.empty()) {
    return Refuse(kOptStructuredReply, kRepErrInvalid, "NBD_OPT_STRUCTURED_REPLY takes no data",
                  out);
  }
  structured_ = true;
  Ack(kOptStructuredReply, out);
}

void Handshake::OnListMetaContext(std::span<const std::byte> data, std::string& out) {
  OnMetaContext(kOptListMetaContext, data, out);
}

void Handshake::OnSetMetaContext(std::span<const std::byte> data, std::string& out) {
  contexts_ = {};  // also when this one fails
  OnMetaContext(kOptSetMetaContext, data, out);
}

void Handshake::OnMetaContext(uint32_t option, std::span<const std::byte> data, std::string& out) {
  const bool is_list = option == kOptListMetaContext;
  if (!structured_)
    return Refuse(option, kRepErrInvalid, "negotiate structured replies first", out);
  const auto query = DecodeMetaContextQuery(data);
  if (!query)
    return Refuse(option, kRepErrInvalid, "the lengths inside the option do not fit its data", out);
  if (RefuseLongName(option, query->name, out)) return;
  const auto matched = Matched(query->queries, is_list);
  if (!matched) return Refuse(option, kRepErrInvalid, "a query that is not NAMESPACE:NAME", out);
  if (const absl::Status status = Open(query->name); !status.ok()) {
    return Refuse(option, RefusalOf(status), Message(status), out);
  }
  for (const MetaContext& context : kMetaContexts) {
    if (!matched->Has(context)) continue;
    std::string reply;
    WireWriter(reply).U32(is_list ? 0 : context.id).Text(context.name);
    AppendOptionReply(option, kRepMetaContext, reply, out);
  }
  Ack(option, out);
  if (is_list) return;
  contexts_ = *matched;
  contexts_name_ = query->name;
}

void Handshake::Close(std::string reason) {
  state_ = State::kClosed;
  close_reason_ = std::move(reason);
}

void Handshake::EnterTransmission(std::string_view name) {
  // Contexts chosen for another export do not count.
  if (contexts_name_ != name) contexts_ = {};
  state_ = State::kTransmission;
}

absl::Status Handshake::Open(std::string_view name) {
  if (disk_ != nullptr && disk_name_ == name) return absl::OkStatus();
  disk_ = nullptr;
  COWL_ASSIGN_OR_RETURN(disk_, table_.Open(name, client_));
  disk_name_ = name;
  return absl::OkStatus();
}

bool Handshake::RefuseLongName(uint32_t option, std::string_view name, std::string& out) const {
  if (name.size() <= kStringBytesMax) return false;
  Refuse(option, kRepErrInvalid, "the export name is longer than 4096 bytes", out);
  return true;
}

// On the disk's own loop, where a resize may be under way: the client hears the size after it, or
// before.
ExportFacts Handshake::Facts() const {
  return RunOn(disk_->loop(), LookAt(disk_->device(), structured_, contexts_));
}

}  // namespace cowl::nbd
