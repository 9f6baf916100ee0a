// database.h: one SQLite connection and its prepared statements, with every error as a Status that
// says what and where. Threads: one at a time (the catalog's mutex). Ownership: a Statement borrows
// from its Database, which must outlive it. Errors: DataLoss for a damaged file, ResourceExhausted
// for a full disk, AlreadyExists and FailedPrecondition for broken uniqueness and references,
// PermissionDenied for a file that may not be written; the message starts with the file's path.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/uuid.h"

struct sqlite3;
struct sqlite3_stmt;

namespace cowl {

class Database;

// A statement, or what SQLite says of a file, on one line as messages are.
std::string OneLine(std::string_view text);

// A prepared statement with its parameters and its present row; goes back to the cache when
// destroyed.
class Statement {
 public:
  Statement(Statement&& other) noexcept;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  ~Statement();

  // Parameters, in order. A nil Uuid is NULL. The text must outlive the statement.
  Statement& Text(std::string_view value);
  Statement& Number(uint64_t value);
  Statement& Id(const Uuid& value);

  // True: there is a row. A row whose column was read as what it is not (a damaged database) makes
  // the next Step fail.
  absl::StatusOr<bool> Step();
  // Steps to the end.
  absl::Status Run();

  // Columns of the present row, numbered from 0.
  std::string TextAt(int column);
  uint64_t NumberAt(int column);
  Uuid IdAt(int column);
  // Not OK when one of the columns read above held something else.
  absl::Status RowStatus() const;
  // Says that a value of the row is out of its range.
  void MarkMalformed(std::string_view what);

 private:
  friend class Database;
  Statement(Database& database, sqlite3_stmt* statement, absl::Status status)
      : database_(&database), statement_(statement), status_(std::move(status)) {}

  Database* database_;
  sqlite3_stmt* statement_;  // null when preparing failed
  absl::Status status_;
  int parameter_ = 0;
};

class Database {
 public:
  enum class Mode {
    kCreate,      // the file must be new
    kReadWrite,   // creates neither shared memory nor lock files: this connection is the only one
    kReadNothing  // reads, and writes nothing to the directory, whatever a crash left there
  };

  // The caller guarantees that no other process writes the database meanwhile (the store's lock).
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path, Mode mode);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  // `sql` is a literal: its address is the cache's key.
  Statement Prepare(const char* sql);
  // Statements without parameters and rows, any number, separated by semicolons.
  absl::Status Execute(const char* sql);

  // Moves what the write-ahead log holds into the database file and syncs it.
  absl::Status Checkpoint();
  // Pages in the write-ahead log after the last commit.
  int wal_page_count() const { return wal_page_count_; }
  // Rows that the last INSERT, UPDATE or DELETE changed.
  int changed_row_count() const;
  const std::string& path() const { return path_; }

  // "PATH: DOING: reason" for an SQLite result code.
  absl::Status Error(int code, std::string_view doing) const;

 private:
  Database(std::string path, sqlite3* connection)
      : path_(std::move(path)), connection_(connection) {}

  const std::string path_;
  sqlite3* const connection_;
  std::unordered_map<const char*, sqlite3_stmt*> statements_;
  int wal_page_count_ = 0;
};

}  // namespace cowl
