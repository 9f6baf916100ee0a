#include "catalog/dump_catalog.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "base/status.h"
#include "catalog/database.h"

namespace cowl {
namespace {

struct Table {
  const char* name;
  const char* lines;  // a query whose one column is a line; {COLUMN} is an identifier's text
};
// Those of schema.cc. Damage can put anything into a field, so texts are quoted.
constexpr Table kTables[] = {
    {"setting", R"(
        SELECT quote(key) || ' = ' || quote(value) FROM setting ORDER BY key)"},
    {"layer", R"(
        SELECT {id} || ' parent ' || {parent} ||
          printf(' size_bytes %d stored_bytes %d created_ns %d', size_bytes, stored_bytes, created_ns) ||
          ' created_by ' || quote(created_by)
        FROM layer ORDER BY created_ns, id)"},
    {"layer_file", R"(
        SELECT {layer} || ' uses ' || {file} FROM layer_file ORDER BY layer, file)"},
    {"image", R"(
        SELECT quote(name) || ' tag ' || quote(tag) || ' layer ' || {layer} ||
          printf(' created_ns %d', created_ns)
        FROM image ORDER BY name, tag)"},
    {"device", R"(
        SELECT quote(name) || iif(kind = 0, ' overlay ', ' volume ') || {overlay} ||
          printf(' written %d pending ', overlay_written) || {pending_overlay} ||
          printf(' written %d base ', pending_written) || {base_layer} ||
          ' image ' || quote(image) || ' layer ' || {image_layer} ||
          ' volume_file ' || quote(volume_file) ||
          printf(' size_bytes %d cap_bytes %d created_ns %d', size_bytes, cap_bytes, created_ns)
        FROM device ORDER BY name)"},
    {"pin", R"(
        SELECT quote(token) || ' layer ' || {layer} || ' owner ' || quote(owner) ||
          printf(' created_ns %d', created_ns)
        FROM pin ORDER BY token)"},
};

constexpr const char* kIdentifiers[] = {"id",      "parent",          "layer",      "file",
                                        "overlay", "pending_overlay", "base_layer", "image_layer"};

// An identifier as the names of files have it.
std::string TextOfIdentifier(const std::string& column) {
  constexpr std::pair<int, int> kParts[] = {{1, 8}, {9, 4}, {13, 4}, {17, 4}, {21, 12}};
  std::string text = absl::StrCat("iif(", column, " IS NULL, '-', lower(");
  const char* separator = "";
  for (const auto& [first, count] : kParts) {
    absl::StrAppend(&text, separator, "substr(hex(", column, "), ", first, ", ", count, ")");
    separator = " || '-' || ";
  }
  return text + "))";
}

std::string QueryOf(const Table& table) {
  std::string query = table.lines;
  for (const char* const column : kIdentifiers)
    query =
        absl::StrReplaceAll(query, {{absl::StrCat("{", column, "}"), TextOfIdentifier(column)}});
  return query;
}

absl::Status DumpRows(Database& database, const char* name, const std::string& query,
                      std::ostream& out) {
  Statement statement = database.Prepare(query.c_str());
  while (true) {
    COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
    if (!found) return absl::OkStatus();
    const std::string line = OneLine(statement.TextAt(0));
    COWL_RETURN_IF_ERROR(statement.RowStatus());
    out << name << " " << line << "\n";
  }
}

}  // namespace

void DumpCatalog(const std::string& path, std::ostream& out) {
  // The database tells its statements apart by address: the queries outlive it.
  std::vector<std::string> queries;
  for (const Table& table : kTables) queries.push_back(QueryOf(table));
  const auto database = Database::Open(path, Database::Mode::kReadNothing);
  if (!database.ok()) {
    out << "damaged: " << Message(database.status()) << "\n";
    return;
  }
  for (size_t i = 0; i < queries.size(); ++i) {
    const char* const name = kTables[i].name;
    const absl::Status status = DumpRows(**database, name, queries[i], out);
    if (!status.ok()) out << name << " damaged: " << Message(status) << "\n";
  }
}

}  // namespace cowl
