// importer.h: what is imported, whatever its format: a disk of a known size that can be poured into
// a sink once. Units: bytes. Threads: one; calls block. Ownership: an importer keeps what it opened
// (descriptors, child processes) until it goes. Errors: one message that names the source and what
// to do; a sink that took part of an import must be thrown away.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "cowl/store.h"
#include "image/block_sink.h"

namespace cowl {

enum class ImportFormat {
  kAuto,  // a directory: kDirectory; an archive: refused; all else kRaw. A raw disk is never taken
          // for another format.
  kRaw,
  kQcow2,
  kDirectory,
};

struct ImportSourceOptions {
  std::string name;  // path, also for messages
  int fd = -1;       // already open for reading; not owned. -1: open `name`
  ImportFormat format = ImportFormat::kAuto;
  // Of the disk. Default: the source's own; for a directory what cowl's README says. Larger than
  // the source: zeros behind it.
  std::optional<uint64_t> size_bytes;
  // The disk is at least this large (a parent's size); a source that is smaller needs `size_bytes`.
  uint64_t size_bytes_min = 0;
};

class Importer {
 public:
  virtual ~Importer() = default;
  virtual uint64_t size_bytes() const = 0;
  // Writes every block that is not zero. Does not call Finish. Once.
  virtual absl::Status Pour(BlockSink& sink, const Progress& progress) = 0;
};

// May take a while for a directory, which is listed first; `progress` is asked whether to go on.
absl::StatusOr<std::unique_ptr<Importer>> OpenImporter(const ImportSourceOptions& options,
                                                       const Progress& progress);

// The size of the disk for a source of `source_bytes`, or why there is none. For raw and qcow2.
absl::StatusOr<uint64_t> DiskSize(const ImportSourceOptions& options, uint64_t source_bytes);

}  // namespace cowl
