// export_table.h: how a server finds the disks it may offer, by name.
// Threads: List and Open may be called from any loop; both may block briefly (control work, not the
// I/O path). Ownership: an OpenExport keeps its device open; the last one of a device to go lets it
// close. It is released on any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "device/block_device.h"
#include "io/socket.h"

namespace cowl {

// One client's hold on one disk. While it exists the disk is in use by a connected client.
class OpenExport {
 public:
  virtual ~OpenExport() = default;
  virtual BlockDevice& device() = 0;
  // The loop all calls to device() must be made on.
  virtual IoLoop& loop() = 0;
  virtual const std::string& name() const = 0;
  virtual const std::string& description() const = 0;
  // Called on loop() when somebody (rm --force, resize) wants this client gone. Set once, before
  // the first request.
  virtual void SetDisconnect(std::function<void()> disconnect) = 0;
};

class ExportTable {
 public:
  struct Entry {
    std::string name;
    std::string description;
  };
  virtual ~ExportTable() = default;
  virtual absl::StatusOr<std::vector<Entry>> List() = 0;
  // `name` as the client sent it; the empty name is the default export, NotFound when there is
  // none. `client` says who asks ("unix client pid 42", "tcp 127.0.0.1:55123"), for refusals that
  // name who uses a disk.
  virtual absl::StatusOr<std::shared_ptr<OpenExport>> Open(std::string_view name,
                                                           std::string_view client) = 0;
};

}  // namespace cowl
