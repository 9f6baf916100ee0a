// peer.h: who a client is, for messages and for `OpenExport`s that name who uses a disk.
#pragma once

#include <string>

namespace cowl::nbd {

// "unix client pid 42", "tcp 127.0.0.1:55123", "tcp [::1]:55123"; "client" where the kernel does
// not tell.
std::string DescribePeer(int socket_fd);

// What a new connection gets: answers leave at once, and a peer that vanished is noticed. No effect
// on unix sockets.
void SetConnectionOptions(int socket_fd);

}  // namespace cowl::nbd
