#include "nbd/listen.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"
#include "nbd/uri.h"

namespace cowl::nbd {
namespace {

constexpr int kGreetingTimeoutMs = 2000;
constexpr int kBacklog = 128;
constexpr mode_t kSocketMode = 0600;
constexpr size_t kSocketPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;
constexpr int kFirstActivatedFd = 3;  // SD_LISTEN_FDS_START

std::string Expected(std::string_view text, std::string_view problem) {
  return absl::StrCat("listen address ", Quoted(text), ": ", Absl(problem),
                      "; give unix:PATH or tcp:HOST:PORT");
}

absl::StatusOr<ListenSpec> ParseUnix(std::string_view text, std::string_view path) {
  if (path.empty()) return InvalidArgument(Expected(text, "the path is empty"));
  if (path.find('\0') != std::string_view::npos)
    return InvalidArgument(Expected(text, "the path holds a NUL"));
  return ListenSpec{ListenSpec::Kind::kUnix, std::string(path), {}, 0};
}

absl::StatusOr<ListenSpec> ParseTcp(std::string_view text, std::string_view address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string_view::npos)
    return InvalidArgument(Expected(text, "the port is missing"));
  std::string_view host = address.substr(0, colon);
  const std::string_view port_text = address.substr(colon + 1);
  const bool has_brackets = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (has_brackets) host = host.substr(1, host.size() - 2);
  if (host.empty()) return InvalidArgument(Expected(text, "the host is missing"));
  if (!has_brackets && host.find(':') != std::string_view::npos) {
    return InvalidArgument(Expected(text, "an IPv6 address needs brackets, as in tcp:[::1]:10809"));
  }
  uint32_t port;
  const bool is_digits =
      !port_text.empty() && port_text.find_first_not_of("0123456789") == std::string_view::npos;
  if (!is_digits || !absl::SimpleAtoi(Absl(port_text), &port) || port > 65535) {
    return InvalidArgument(Expected(text, "the port is not a number from 0 to 65535"));
  }
  return ListenSpec{ListenSpec::Kind::kTcp, {}, std::string(host), static_cast<uint16_t>(port)};
}

// --- unix ---

absl::StatusOr<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() > kSocketPathBytesMax) {
    return InvalidArgument(absl::StrCat("listen on ", Quoted(path), ": a socket's path may have ",
                                        kSocketPathBytesMax, " bytes and this has ", path.size(),
                                        "; choose a shorter one"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// Whether a server answers at `address`. The listener of a server that was killed takes connections
// until the kernel has ended its rings, and then drops them; one that lives greets, or is busy. One
// that stays silent is taken to live.
absl::StatusOr<bool> IsServed(const std::string& path, const sockaddr_un& address) {
  const auto* const generic = reinterpret_cast<const sockaddr*>(&address);
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return ErrnoStatus(errno, "make a socket for", path);
  if (::connect(probe.get(), generic, sizeof(address)) != 0) {
    if (errno == EAGAIN) return true;
    if (errno == ENOENT || errno == ECONNREFUSED) return false;
    return ErrnoStatus(errno, "listen on", path);
  }
  pollfd readable{probe.get(), POLLIN, 0};
  if (::poll(&readable, 1, kGreetingTimeoutMs) <= 0) return true;
  char greeting;
  return ::read(probe.get(), &greeting, 1) == 1;
}

// Makes way for a new socket at `path`: OK when there is nothing, or what a dead server left.
absl::Status ClearPath(const std::string& path, const sockaddr_un& address) {
  struct stat file;
  if (::lstat(path.c_str(), &file) != 0) {
    return errno == ENOENT ? absl::OkStatus() : ErrnoStatus(errno, "listen on", path);
  }
  if (!S_ISSOCK(file.st_mode)) {
    return AlreadyExists(
        absl::StrCat("listen on ", path,
                     ": there is a file that is no socket; remove it or choose another path"));
  }
  COWL_ASSIGN_OR_RETURN(const bool served, IsServed(path, address));
  if (served) {
    return AlreadyExists(absl::StrCat(
        "listen on ", path, ": another server listens there; stop it or choose another path"));
  }
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return ErrnoStatus(errno, "remove the old socket", path);
  return absl::OkStatus();
}

absl::StatusOr<BoundSocket> BindUnix(const std::string& given_path) {
  std::error_code failed;
  const std::string path =
      std::filesystem::absolute(given_path, failed).lexically_normal().string();
  if (failed) return ErrnoStatus(failed.value(), "listen on", given_path);
  COWL_ASSIGN_OR_RETURN(const sockaddr_un address, UnixAddress(path));
  COWL_RETURN_IF_ERROR(ClearPath(path, address));
  BoundSocket bound;
  bound.fd = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!bound.fd.valid()) return ErrnoStatus(errno, "make a socket for", path);
  // The mode of the socket itself is what its file is made with, so the file never has another.
  if (::fchmod(bound.fd.get(), kSocketMode) != 0)
    return ErrnoStatus(errno, "set the mode of the socket", path);
  if (::bind(bound.fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return ErrnoStatus(errno, "listen on", path);
  }
  bound.file = SocketFile(path);
  if (::listen(bound.fd.get(), kBacklog) != 0) return ErrnoStatus(errno, "listen on", path);
  bound.uri = UnixUri(path);
  return bound;
}

// --- tcp ---

struct FreeAddresses {
  void operator()(addrinfo* addresses) const { ::freeaddrinfo(addresses); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

bool IsLoopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    return (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
  }
  if (address->sa_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  }
  return false;
}

absl::Status RefuseWithoutTls(std::string_view host) {
  return InvalidArgument(absl::StrCat(
      "listen on ", Quoted(host),
      ": beyond loopback clients and data would be unprotected, and this server has no TLS; "
      "listen on 127.0.0.1, [::1] or a unix socket, and forward it by ssh"));
}

absl::StatusOr<Addresses> Resolve(const ListenSpec& spec) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed =
      ::getaddrinfo(spec.host.c_str(), absl::StrCat(spec.port).c_str(), &hints, &found);
  if (failed != 0) {
    return InvalidArgument(absl::StrCat("listen on ", Quoted(spec.host), ": no such host (",
                                        ::gai_strerror(failed), ")"));
  }
  return Addresses(found);
}

absl::StatusOr<std::string> BoundTcpUri(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  uint32_t port_number;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return ErrnoStatus(errno, "ask for", "the address");
  const int failed =
      ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), size, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
  if (failed != 0 || !absl::SimpleAtoi(port, &port_number))
    return Internal("a bound socket without an address");
  return TcpUri(host, static_cast<uint16_t>(port_number));
}

absl::StatusOr<BoundSocket> BindAddress(const addrinfo& address, std::string_view host) {
  BoundSocket bound;
  bound.fd = UniqueFd(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!bound.fd.valid()) return ErrnoStatus(errno, "make a socket for", host);
  const int on = 1;
  ::setsockopt(bound.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool listens = ::bind(bound.fd.get(), address.ai_addr, address.ai_addrlen) == 0 &&
                       ::listen(bound.fd.get(), kBacklog) == 0;
  if (!listens) return ErrnoStatus(errno, "listen on", host);
  COWL_ASSIGN_OR_RETURN(bound.uri, BoundTcpUri(bound.fd.get()));
  return bound;
}

// The first address of the host that can be had, IPv4 before IPv6: "localhost" is both, and clients
// try 127.0.0.1.
absl::StatusOr<BoundSocket> BindTcp(const ListenSpec& spec) {
  COWL_ASSIGN_OR_RETURN(const Addresses addresses, Resolve(spec));
  for (const addrinfo* address = addresses.get(); address != nullptr; address = address->ai_next) {
    if (!IsLoopback(address->ai_addr)) return RefuseWithoutTls(spec.host);
  }
  const std::string where = absl::StrCat(spec.host, ":", spec.port);
  absl::Status failure =
      InvalidArgument(absl::StrCat("listen on ", where, ": the host has no address"));
  for (const int family : {AF_INET, AF_INET6}) {
    for (const addrinfo* address = addresses.get(); address != nullptr;
         address = address->ai_next) {
      if (address->ai_family != family) continue;
      auto bound = BindAddress(*address, where);
      if (bound.ok()) return bound;
      failure = bound.status();
    }
  }
  return failure;
}

// --- systemd ---

int SocketOption(int fd, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

absl::StatusOr<std::string> ActivatedUri(int fd) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return ErrnoStatus(errno, "ask for", "the address");
  if (address.ss_family == AF_UNIX) {
    const auto* unix_address = reinterpret_cast<const sockaddr_un*>(&address);
    if (unix_address->sun_path[0] != '/')
      return InvalidArgument("a unix socket without an absolute path");
    return UnixUri(std::string(unix_address->sun_path,
                               ::strnlen(unix_address->sun_path, sizeof(unix_address->sun_path))));
  }
  if (!IsLoopback(reinterpret_cast<const sockaddr*>(&address)))
    return RefuseWithoutTls("the address of the systemd socket");
  return BoundTcpUri(fd);
}

absl::StatusOr<BoundSocket> TakeActivatedSocket(int fd) {
  const std::string where = absl::StrCat("descriptor ", fd, " from systemd");
  BoundSocket bound;
  bound.fd = UniqueFd(fd);
  if (SocketOption(fd, SO_ACCEPTCONN) != 1 || SocketOption(fd, SO_TYPE) != SOCK_STREAM) {
    return InvalidArgument(absl::StrCat(
        where, " is not a listening stream socket; the unit needs ListenStream= and Accept=no"));
  }
  // systemd may pass it non-blocking; the loops want to wait in the kernel.
  const int flags = ::fcntl(fd, F_GETFL);
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || flags < 0 ||
      ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return ErrnoStatus(errno, "take", where);
  }
  auto uri = ActivatedUri(fd);
  if (!uri.ok()) return Annotate(uri.status(), where);
  bound.uri = *std::move(uri);
  return bound;
}

// A number from the environment, or -1.
int64_t EnvironmentNumber(const char* name) {
  const char* const text = std::getenv(name);
  int64_t number;
  return text != nullptr && absl::SimpleAtoi(text, &number) ? number : -1;
}

}  // namespace

absl::StatusOr<ListenSpec> ParseListenSpec(std::string_view text) {
  if (text.starts_with("unix:")) return ParseUnix(text, text.substr(5));
  if (text.starts_with("tcp:")) return ParseTcp(text, text.substr(4));
  return InvalidArgument(Expected(text, "neither unix: nor tcp:"));
}

absl::StatusOr<BoundSocket> Bind(const ListenSpec& spec) {
  return spec.kind == ListenSpec::Kind::kUnix ? BindUnix(spec.path) : BindTcp(spec);
}

absl::StatusOr<std::vector<BoundSocket>> TakeActivatedSockets() {
  constexpr int64_t kCountMax = 64;
  const int64_t pid = EnvironmentNumber("LISTEN_PID");
  const int64_t count = EnvironmentNumber("LISTEN_FDS");
  std::vector<BoundSocket> sockets;
  if (pid != ::getpid() || count <= 0) return sockets;
  for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  if (count > kCountMax)
    return InvalidArgument(
        absl::StrCat("systemd passes ", count, " sockets; ", kCountMax, " is the most"));
  for (int64_t i = 0; i < count; ++i) {
    COWL_ASSIGN_OR_RETURN(BoundSocket bound,
                          TakeActivatedSocket(static_cast<int>(kFirstActivatedFd + i)));
    sockets.push_back(std::move(bound));
  }
  return sockets;
}

SocketFile::SocketFile(std::string path) {
  struct stat file;
  if (::lstat(path.c_str(), &file) != 0) return;
  path_ = std::move(path);
  device_ = file.st_dev;
  inode_ = file.st_ino;
}

SocketFile::SocketFile(SocketFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), device_(other.device_), inode_(other.inode_) {}

SocketFile& SocketFile::operator=(SocketFile&& other) noexcept {
  if (this == &other) return *this;
  Remove();
  path_ = std::exchange(other.path_, {});
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

void SocketFile::Remove() {
  struct stat file;
  const bool is_ours = !path_.empty() && ::lstat(path_.c_str(), &file) == 0 &&
                       file.st_dev == device_ && file.st_ino == inode_;
  if (is_ours) ::unlink(path_.c_str());
  path_.clear();
}

}  // namespace cowl::nbd
