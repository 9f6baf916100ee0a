// socket_path.h: unix sockets in folders whose path may be longer than the 107 bytes that an
// address takes.
#pragma once

#include <sys/un.h>

#include <cstdio>
#include <string>

namespace cowl {

inline constexpr char kControlSocketName[] = "control.sock";

// The address of `name` in the folder that `directory_fd` has open. `name` is short.
inline sockaddr_un SocketAddressAt(int directory_fd, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", directory_fd,
                name.c_str());
  return address;
}

}  // namespace cowl
