#include "catalog/database.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace cowl {
namespace {

constexpr int kBusyTimeoutMs = 5000;

// The path inside a file: URI, where ? # and % would mean something.
std::string UriPath(std::string_view path) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string uri = "file:";
  for (const char c : path) {
    if (c == '?' || c == '#' || c == '%') {
      uri += '%';
      uri += kHex[static_cast<unsigned char>(c) >> 4];
      uri += kHex[c & 15];
    } else {
      uri += c;
    }
  }
  return uri;
}

uint64_t FileBytes(const std::string& path) {
  struct stat info;
  return ::stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
}

// A database in WAL mode that is opened for reading makes -wal and -shm files. Two ways around
// that: with nothing in the log the file alone is the database ("immutable"); else the log is read
// without locks, with its index in this process's memory (exclusive locking mode), and without the
// checkpoint that closing would do.
std::string ReadNothingUri(const std::string& path) {
  const bool has_log = FileBytes(path + "-wal") > 0;
  return absl::StrCat(UriPath(path), has_log ? "?mode=ro&vfs=unix-none" : "?mode=ro&immutable=1");
}

absl::Status CheckPath(const std::string& path, Database::Mode mode) {
  struct stat info;
  const bool found = ::stat(path.c_str(), &info) == 0;
  if (!found && errno != ENOENT) return ErrnoStatus(errno, "open", path);
  if (mode == Database::Mode::kCreate) {
    return found ? AlreadyExists(absl::StrCat("create ", path, ": it is there already"))
                 : absl::OkStatus();
  }
  if (!found) return ErrnoStatus(ENOENT, "open", path);
  if (!S_ISREG(info.st_mode))
    return FailedPrecondition(absl::StrCat("open ", path, ": not a regular file"));
  return absl::OkStatus();
}

absl::StatusCode CodeOf(int sqlite_code) {
  switch (sqlite_code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_MISMATCH:
      return absl::StatusCode::kDataLoss;
    case SQLITE_FULL:
      return absl::StatusCode::kResourceExhausted;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::StatusCode::kPermissionDenied;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::StatusCode::kUnavailable;
    case SQLITE_CONSTRAINT:
      return sqlite_code == SQLITE_CONSTRAINT_UNIQUE || sqlite_code == SQLITE_CONSTRAINT_PRIMARYKEY
                 ? absl::StatusCode::kAlreadyExists
                 : absl::StatusCode::kFailedPrecondition;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

std::string OneLine(std::string_view text) {
  return absl::StrJoin(absl::StrSplit(Absl(text), absl::ByAnyChar(" \n\t"), absl::SkipEmpty()),
                       " ");
}

// --- Statement ---

Statement::Statement(Statement&& other) noexcept
    : database_(other.database_),
      statement_(std::exchange(other.statement_, nullptr)),
      status_(std::move(other.status_)),
      parameter_(other.parameter_) {}

Statement::~Statement() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Statement& Statement::Text(std::string_view value) {
  if (statement_ != nullptr) {
    // A null pointer would bind NULL, which empty text is not.
    const char* const text = value.data() == nullptr ? "" : value.data();
    sqlite3_bind_text(statement_, ++parameter_, text, static_cast<int>(value.size()),
                      SQLITE_STATIC);
  }
  return *this;
}

Statement& Statement::Number(uint64_t value) {
  if (statement_ != nullptr)
    sqlite3_bind_int64(statement_, ++parameter_, static_cast<sqlite3_int64>(value));
  return *this;
}

Statement& Statement::Id(const Uuid& value) {
  if (statement_ == nullptr) return *this;
  ++parameter_;
  if (value.IsNil()) {
    sqlite3_bind_null(statement_, parameter_);
  } else {
    sqlite3_bind_blob(statement_, parameter_, value.bytes.data(),
                      static_cast<int>(value.bytes.size()), SQLITE_TRANSIENT);
  }
  return *this;
}

absl::StatusOr<bool> Statement::Step() {
  if (!status_.ok()) return status_;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  status_ = database_->Error(code, sqlite3_sql(statement_));
  return status_;
}

absl::Status Statement::Run() {
  while (true) {
    COWL_ASSIGN_OR_RETURN(const bool more, Step());
    if (!more) return absl::OkStatus();
  }
}

std::string Statement::TextAt(int column) {
  const int type = sqlite3_column_type(statement_, column);
  if (type != SQLITE_TEXT) {
    MarkMalformed("text");
    return "";
  }
  const auto* const text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  if (text == nullptr) {
    MarkMalformed("text");
    return "";
  }
  return {text, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

uint64_t Statement::NumberAt(int column) {
  if (sqlite3_column_type(statement_, column) != SQLITE_INTEGER) MarkMalformed("number");
  const sqlite3_int64 value = sqlite3_column_int64(statement_, column);
  if (value < 0) MarkMalformed("number");
  return static_cast<uint64_t>(value);
}

Uuid Statement::IdAt(int column) {
  Uuid id;
  const int type = sqlite3_column_type(statement_, column);
  if (type == SQLITE_NULL) return id;
  if (type != SQLITE_BLOB ||
      sqlite3_column_bytes(statement_, column) != static_cast<int>(id.bytes.size())) {
    MarkMalformed("id");
    return id;
  }
  std::memcpy(id.bytes.data(), sqlite3_column_blob(statement_, column), id.bytes.size());
  return id;
}

absl::Status Statement::RowStatus() const { return status_; }

void Statement::MarkMalformed(std::string_view what) {
  if (!status_.ok()) return;
  status_ = DataLoss(absl::StrCat(
      database_->path(), ": damaged (a ", Absl(what), " that cannot be, in the answer to ",
      OneLine(sqlite3_sql(statement_)), "); restore the file from a backup"));
}

// --- Database ---

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path, Mode mode) {
  COWL_RETURN_IF_ERROR(CheckPath(path, mode));
  int flags = SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX;
  std::string uri = UriPath(path);
  switch (mode) {
    case Mode::kCreate:
      flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
      break;
    case Mode::kReadWrite:
      flags |= SQLITE_OPEN_READWRITE;
      break;
    case Mode::kReadNothing:
      flags |= SQLITE_OPEN_READONLY;
      uri = ReadNothingUri(path);
      break;
  }
  sqlite3* connection = nullptr;
  const int code = sqlite3_open_v2(uri.c_str(), &connection, flags, nullptr);
  std::unique_ptr<Database> database(new Database(path, connection));
  if (code != SQLITE_OK) return database->Error(code, "open");
  if (mode == Mode::kReadWrite && sqlite3_db_readonly(connection, "main") != 0) {
    return ErrnoStatus(EACCES, "open for writing", path);
  }
  sqlite3_extended_result_codes(connection, 1);
  sqlite3_busy_timeout(connection, kBusyTimeoutMs);
  // Bad data in the file must not make SQLite do more than say so.
  sqlite3_db_config(connection, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  sqlite3_db_config(connection, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  if (mode == Mode::kReadNothing)
    sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  // Checkpoints are made by Checkpoint alone: the automatic ones keep a failed sync to themselves.
  sqlite3_wal_hook(
      connection,
      [](void* self, sqlite3*, const char*, int pages) {
        static_cast<Database*>(self)->wal_page_count_ = pages;
        return SQLITE_OK;
      },
      database.get());
  // Exclusive mode keeps the log's index in memory: no -shm file, and nobody else's writes to miss.
  COWL_RETURN_IF_ERROR(database->Execute("PRAGMA locking_mode=EXCLUSIVE; PRAGMA foreign_keys=ON"));
  if (mode != Mode::kReadNothing) {
    COWL_RETURN_IF_ERROR(database->Execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL"));
  }
  return database;
}

Database::~Database() {
  for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(connection_);
}

Statement Database::Prepare(const char* sql) {
  sqlite3_stmt*& cached = statements_[sql];
  if (cached != nullptr && sqlite3_stmt_busy(cached) == 0) return {*this, cached, absl::OkStatus()};
  COWL_CHECK(cached == nullptr);  // a statement in use is asked for again: a query nested in itself
  const int code =
      sqlite3_prepare_v3(connection_, sql, -1, SQLITE_PREPARE_PERSISTENT, &cached, nullptr);
  if (code != SQLITE_OK) return {*this, nullptr, Error(code, sql)};
  return {*this, cached, absl::OkStatus()};
}

absl::Status Database::Execute(const char* sql) {
  const int code = sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::Status Database::Checkpoint() {
  int log_pages = 0;
  const int code = sqlite3_wal_checkpoint_v2(connection_, "main", SQLITE_CHECKPOINT_RESTART,
                                             &log_pages, nullptr);
  if (code != SQLITE_OK) return Error(code, "checkpoint");
  wal_page_count_ = 0;
  return absl::OkStatus();
}

int Database::changed_row_count() const { return sqlite3_changes(connection_); }

absl::Status Database::Error(int code, std::string_view doing) const {
  const int extended = connection_ == nullptr ? code : sqlite3_extended_errcode(connection_);
  const int shown = (extended & 0xff) == (code & 0xff) ? extended : code;
  const int error_number = connection_ == nullptr ? ENOMEM : sqlite3_system_errno(connection_);
  const bool is_io = (code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN;
  if (is_io && error_number != 0) return ErrnoStatus(error_number, OneLine(doing), path_);
  const char* const reason =
      connection_ == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(connection_);
  const absl::StatusCode status_code = CodeOf(shown);
  if (status_code == absl::StatusCode::kDataLoss) {
    return DataLoss(
        absl::StrCat(path_, ": damaged (", reason, "); restore the file from a backup"));
  }
  return absl::Status(status_code, absl::StrCat(path_, ": ", OneLine(doing), ": ", reason));
}

}  // namespace cowl
