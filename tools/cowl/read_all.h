// read_all.h: everything that comes out of a descriptor until its other end is closed. An error
// counts as the end.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string>

namespace cowl {

inline std::string ReadAll(int fd) {
  std::string text;
  char part[4096];
  while (true) {
    const ssize_t got = ::read(fd, part, sizeof(part));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(part, static_cast<size_t>(got));
  }
}

}  // namespace cowl
