#include "catalog/schema.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/bytes.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace cowl {
namespace {

// Ids are 16 bytes, or NULL for none. Times are nanoseconds. The references make a layer that
// somebody builds on undeletable. The checks are for rows that no cowl writes: a damaged or
// hand-edited file is found out early.
constexpr char kSchema[] = R"sql(
CREATE TABLE setting (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE layer (
  id BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
  parent BLOB REFERENCES layer(id) CHECK (parent <> id),
  size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
  stored_bytes INTEGER NOT NULL CHECK (stored_bytes >= 0),
  created_ns INTEGER NOT NULL,
  created_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_by_parent ON layer(parent);

-- Which data files a layer's map names. A file whose own layer is gone stays for as long as it stands here.
CREATE TABLE layer_file (
  layer BLOB NOT NULL REFERENCES layer(id),
  file BLOB NOT NULL CHECK (length(file) = 16),
  PRIMARY KEY (layer, file)
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_file_by_file ON layer_file(file);

CREATE TABLE image (
  name TEXT NOT NULL,
  tag TEXT NOT NULL,
  layer BLOB NOT NULL REFERENCES layer(id),
  created_ns INTEGER NOT NULL,
  PRIMARY KEY (name, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_by_layer ON image(layer);

-- kind: 0 overlay, 1 volume. image: a hint for reports, not a reference.
CREATE TABLE device (
  name TEXT PRIMARY KEY,
  kind INTEGER NOT NULL CHECK (kind IN (0, 1)),
  image TEXT NOT NULL,
  image_layer BLOB REFERENCES layer(id),
  base_layer BLOB REFERENCES layer(id),
  overlay BLOB NOT NULL UNIQUE CHECK (length(overlay) = 16),
  overlay_written INTEGER NOT NULL CHECK (overlay_written IN (0, 1)),
  pending_overlay BLOB CHECK (length(pending_overlay) = 16),
  pending_written INTEGER NOT NULL CHECK (pending_written IN (0, 1)),
  volume_file TEXT NOT NULL,
  size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
  cap_bytes INTEGER NOT NULL CHECK (cap_bytes >= 0),
  created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX device_by_image_layer ON device(image_layer);
CREATE INDEX device_by_base_layer ON device(base_layer);

CREATE TABLE pin (
  token TEXT PRIMARY KEY,
  layer BLOB NOT NULL REFERENCES layer(id),
  owner TEXT NOT NULL,
  created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_by_layer ON pin(layer);
)sql";

// SQLite's header, as its file format page has it. These fields are written once, when the catalog
// is made.
constexpr size_t kHeaderBytes = 100;
constexpr char kMagic[] = "SQLite format 3";  // with its closing zero: 16 bytes
constexpr size_t kWriteVersionAt = 18;
constexpr std::byte kWalVersion{2};
constexpr size_t kApplicationIdAt = 68;

absl::Status Damaged(const std::string& path, std::string_view what) {
  return DataLoss(
      absl::StrCat(path, ": damaged (", OneLine(what), "); restore the file from a backup"));
}

absl::StatusOr<uint64_t> Pragma(Database& database, const char* sql) {
  Statement statement = database.Prepare(sql);
  COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
  const uint64_t value = found ? statement.NumberAt(0) : 0;
  COWL_RETURN_IF_ERROR(statement.RowStatus());
  return value;
}

absl::Status CheckWhole(Database& database) {
  Statement statement = database.Prepare("PRAGMA quick_check(1)");
  COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
  const std::string answer = found ? statement.TextAt(0) : "no answer";
  COWL_RETURN_IF_ERROR(statement.RowStatus());
  if (answer == "ok") return absl::OkStatus();
  return Damaged(database.path(), answer);
}

}  // namespace

absl::Status CheckHeader(const std::string& path) {
  // O_NONBLOCK: a FIFO in its place must not hang us.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) return ErrnoStatus(errno, "open", path);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return ErrnoStatus(errno, "open", path);
  if (!S_ISREG(info.st_mode))
    return FailedPrecondition(absl::StrCat("open ", path, ": not a regular file"));
  std::array<std::byte, kHeaderBytes> header;
  const ssize_t got = ::pread(file.get(), header.data(), header.size(), 0);
  if (got < 0) return ErrnoStatus(errno, "read", path);
  if (got < static_cast<ssize_t>(header.size())) return Damaged(path, "shorter than its header");
  if (std::memcmp(header.data(), kMagic, sizeof(kMagic)) != 0)
    return Damaged(path, "it does not start as a database does");
  if (LoadBig<uint32_t>(header.data() + kApplicationIdAt) != kCatalogApplicationId) {
    return FailedPrecondition(
        absl::StrCat(path, ": a database, but not a cowl catalog; is this directory a store?"));
  }
  if (header[kWriteVersionAt] != kWalVersion)
    return Damaged(path, "it is not in the mode that cowl writes");
  return absl::OkStatus();
}

absl::Status CreateSchema(Database& database) {
  COWL_RETURN_IF_ERROR(database.Execute("BEGIN IMMEDIATE"));
  COWL_RETURN_IF_ERROR(database.Execute(kSchema));
  const std::string header = absl::StrCat("PRAGMA application_id = ", kCatalogApplicationId,
                                          "; PRAGMA user_version = ", kCatalogVersion);
  COWL_RETURN_IF_ERROR(database.Execute(header.c_str()));
  return database.Execute("COMMIT");
}

absl::Status CheckSchema(Database& database) {
  COWL_ASSIGN_OR_RETURN(const uint64_t version, Pragma(database, "PRAGMA user_version"));
  if (version > kCatalogVersion) {
    return FailedPrecondition(absl::StrCat(database.path(), ": catalog version ", version,
                                           ", and this cowl knows up to ", kCatalogVersion,
                                           "; use the cowl that wrote it, or a newer one"));
  }
  if (version != kCatalogVersion) {
    return Damaged(database.path(), Std(absl::StrCat("catalog version ", version, " never was")));
  }
  return CheckWhole(database);
}

}  // namespace cowl
