// lease_table.h: frozen states that clients of the server read: given back for a client that was
// killed before it did so. A client that still reads when the server ends gives its own back, and
// the store forgets those of the dead when it is opened. Threads: any. Ownership: the store
// outlives it.
#pragma once

#include <sys/types.h>

#include <map>
#include <mutex>
#include <string>

#include "base/unique_fd.h"
#include "cowl/store.h"

namespace cowl {

class LeaseTable {
 public:
  explicit LeaseTable(Store& store) : store_(store) {}

  // `client_pid`: the process that took it. A client without a number here (0) is not watched.
  void Add(const std::string& token, int client_pid);
  void Forget(const std::string& token);
  // Gives back what ended processes left.
  void ReleaseOrphans();

 private:
  struct Holder {
    UniqueFd process;  // a pidfd; not valid: it is not watched
    bool has_ended = false;
  };

  static Holder HolderOf(int pid);
  static bool HasEnded(const Holder& holder);
  void Release(const std::string& token);

  Store& store_;
  std::mutex mutex_;
  std::map<std::string, Holder> holders_;  // by token
};

}  // namespace cowl
