// What the values of a command line must look like: all that can be said without looking at any
// store.
#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/size_text.h"
#include "base/status.h"
#include "cowl/names.h"
#include "tools/cowl/parse.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr int kCountMax = 1'000'000;

absl::Status NotInThisVersion(const std::string& what) {
  return InvalidArgument(absl::StrCat(what, " is not supported by this version of cowl"));
}

std::vector<std::string> Choices(const char* text) {
  return absl::StrSplit(text, '|', absl::SkipEmpty());
}

absl::Status CheckChoice(const Value& value, const std::string& what, const std::string& text) {
  const std::vector<std::string> choices = Choices(value.choices);
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    return InvalidArgument(
        absl::StrCat(what, " ", Quoted(text), " is none of ", absl::StrJoin(choices, ", ")));
  }
  const std::vector<std::string> unsupported = Choices(value.unsupported);
  if (std::find(unsupported.begin(), unsupported.end(), text) != unsupported.end()) {
    return NotInThisVersion(absl::StrCat(what, " ", text));
  }
  return absl::OkStatus();
}

absl::Status CheckCount(const std::string& what, const std::string& text) {
  int count;
  const bool is_digits = !text.empty() && std::all_of(text.begin(), text.end(),
                                                      [](char c) { return c >= '0' && c <= '9'; });
  if (is_digits && text.size() < 9 && absl::SimpleAtoi(text, &count) && count >= 1 &&
      count <= kCountMax) {
    return absl::OkStatus();
  }
  return InvalidArgument(
      absl::StrCat(what, " ", Quoted(text), " is no number from 1 to ", kCountMax));
}

// False for a numeric address that other hosts can reach; a name is looked up when the server
// listens.
bool MayBeLoopback(const std::string& host) {
  in_addr v4;
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  in6_addr v6;
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return true;
}

absl::Status CheckListen(const std::string& text) {
  if (text.starts_with("unix:") && text.size() > 5) return absl::OkStatus();
  const size_t colon = text.rfind(':');
  if (!text.starts_with("tcp:") || colon <= 4) {
    return InvalidArgument(
        absl::StrCat("--listen ", Quoted(text), " is neither unix:PATH nor tcp:HOST:PORT"));
  }
  std::string host = text.substr(4, colon - 4);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']')
    host = host.substr(1, host.size() - 2);
  const std::string port = text.substr(colon + 1);
  const bool is_port =
      !port.empty() && port.size() <= 5 &&
      std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }) &&
      std::stoi(port) <= 65535;
  if (!is_port)
    return InvalidArgument(absl::StrCat("--listen ", Quoted(text), " has no port from 0 to 65535"));
  if (!MayBeLoopback(host)) {
    return InvalidArgument(absl::StrCat(
        "--listen ", Quoted(text),
        " can be reached from other hosts, which needs TLS, and that is not supported by this "
        "version of cowl: listen on 127.0.0.1 or a unix socket"));
  }
  return absl::OkStatus();
}

absl::Status CheckName(const std::string& text) {
  if (text.find(':') != std::string::npos) return ParseImageName(text).status();
  return ValidateDeviceName(text);
}

absl::Status CheckValue(const Value& value, const std::string& what, const std::string& text) {
  switch (value.kind) {
    case ValueKind::kImage:
      return ParseImageName(text).status();
    case ValueKind::kDevice:
      return ValidateDeviceName(text);
    case ValueKind::kName:
      return CheckName(text);
    case ValueKind::kSize:
      return Annotate(ParseSizeBytes(text).status(), what);
    case ValueKind::kCount:
      return CheckCount(what, text);
    case ValueKind::kChoice:
      return CheckChoice(value, what, text);
    case ValueKind::kListen:
      return CheckListen(text);
    case ValueKind::kPath:
      if (text.empty()) return InvalidArgument(absl::StrCat(what, " is empty: give a path"));
      return absl::OkStatus();
    case ValueKind::kText:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status CheckAll(const Invocation& invocation, const Value& value, const std::string& what) {
  const auto given = invocation.values.find(what);
  if (given == invocation.values.end()) return absl::OkStatus();
  for (const std::string& text : given->second) COWL_RETURN_IF_ERROR(CheckValue(value, what, text));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckInvocation(const Invocation& invocation) {
  const Verb& verb = *invocation.verb;
  if (verb.run == nullptr) return NotInThisVersion("this verb");
  for (const Option& option : verb.options) {
    if (option.is_unsupported && invocation.Has(option.name)) return NotInThisVersion(option.name);
    if (option.value.name != nullptr)
      COWL_RETURN_IF_ERROR(CheckAll(invocation, option.value, option.name));
  }
  COWL_RETURN_IF_ERROR(CheckAll(invocation, GlobalOptions()[0].value, "--store"));
  for (const Value& positional : verb.positionals) {
    if (positional.is_required && !invocation.Has(positional.name)) {
      return InvalidArgument(absl::StrCat(positional.name, " is missing"));
    }
    COWL_RETURN_IF_ERROR(CheckAll(invocation, positional, positional.name));
  }
  if (invocation.force && verb.force == nullptr)
    return InvalidArgument("--force means nothing here");
  if (verb.takes_command && invocation.command.empty())
    return InvalidArgument("-- COMMAND is missing");
  return verb.check != nullptr ? verb.check(invocation) : absl::OkStatus();
}

std::string Invocation::Text(const std::string& key) const {
  const auto given = values.find(key);
  return given == values.end() || given->second.empty() ? std::string() : given->second.front();
}

uint64_t Invocation::SizeBytes(const std::string& key) const {
  return ParseSizeBytes(Text(key)).value_or(0);
}

int Invocation::Count(const std::string& key, int otherwise) const {
  int count;
  return absl::SimpleAtoi(Text(key), &count) ? count : otherwise;
}

}  // namespace cowl
