#include "nbd/peer.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "absl/strings/str_cat.h"

namespace cowl::nbd {
namespace {

std::string DescribeUnixPeer(int socket_fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return "unix client";
  return absl::StrCat("unix client pid ", peer.pid);
}

std::string DescribeInternetPeer(const sockaddr_storage& address, socklen_t size) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  const int failed =
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
  if (failed != 0) return "tcp client";
  if (address.ss_family == AF_INET6) return absl::StrCat("tcp [", host, "]:", port);
  return absl::StrCat("tcp ", host, ":", port);
}

bool IsInternet(const sockaddr_storage& address) {
  return address.ss_family == AF_INET || address.ss_family == AF_INET6;
}

}  // namespace

std::string DescribePeer(int socket_fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getpeername(socket_fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "client";
  if (address.ss_family == AF_UNIX) return DescribeUnixPeer(socket_fd);
  return IsInternet(address) ? DescribeInternetPeer(address, size) : "client";
}

void SetConnectionOptions(int socket_fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      !IsInternet(address))
    return;
  const int on = 1;
  ::setsockopt(socket_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(socket_fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

}  // namespace cowl::nbd
