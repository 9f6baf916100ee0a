// uri.h: NBD URIs, as nbdinfo, qemu and libnbd read them.
// Pure functions. An empty export name is the default export.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cowl::nbd {

// nbd+unix:///NAME?socket=PATH. `path` as the client will open it; make it absolute first.
std::string UnixUri(std::string_view path, std::string_view export_name = {});

// nbd://HOST:PORT/NAME; an IPv6 address gets its brackets here.
std::string TcpUri(std::string_view host, uint16_t port, std::string_view export_name = {});

// The URI of one export of a listener, from the listener's own URI (made by one of the two above
// with no name).
std::string UriForExport(std::string_view listener_uri, std::string_view export_name);

// Everything but letters, digits, "-._~" and the characters of `keep` as %XX.
std::string PercentEncode(std::string_view text, std::string_view keep);

}  // namespace cowl::nbd
