#include "nbd/uri.h"

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl::nbd {
namespace {

constexpr std::string_view kUnixPrefix = "nbd+unix:///";

bool IsUnreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '.' || c == '_' || c == '~';
}

// A colon may stand in a path, and NAME:TAG is easier to read with it.
std::string EncodeName(std::string_view name) { return PercentEncode(name, ":"); }

}  // namespace

std::string PercentEncode(std::string_view text, std::string_view keep) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : text) {
    if (IsUnreserved(c) || keep.find(c) != std::string_view::npos) {
      encoded += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
  }
  return encoded;
}

std::string UnixUri(std::string_view path, std::string_view export_name) {
  return absl::StrCat(Absl(kUnixPrefix), EncodeName(export_name),
                      "?socket=", PercentEncode(path, "/:"));
}

std::string TcpUri(std::string_view host, uint16_t port, std::string_view export_name) {
  const bool is_v6 = host.find(':') != std::string_view::npos;
  std::string uri =
      absl::StrCat("nbd://", is_v6 ? "[" : "", Absl(host), is_v6 ? "]" : "", ":", port);
  if (!export_name.empty()) absl::StrAppend(&uri, "/", EncodeName(export_name));
  return uri;
}

std::string UriForExport(std::string_view listener_uri, std::string_view export_name) {
  if (export_name.empty()) return std::string(listener_uri);
  std::string uri(listener_uri);
  if (uri.starts_with(kUnixPrefix)) return uri.insert(kUnixPrefix.size(), EncodeName(export_name));
  return absl::StrCat(uri, "/", EncodeName(export_name));
}

}  // namespace cowl::nbd
