#include "catalog/dump_catalog.h"

#include "base/status.h"
#include "catalog/database.h"

namespace cowl {
namespace {

// As the names of files have them.
#define ID(column)                                                                                \
  "iif(" column " IS NULL, '-', lower(substr(hex(" column "), 1, 8) || '-' || substr(hex(" column \
  "), 9, 4) || '-' || substr(hex(" column "), 13, 4) || '-' || substr(hex(" column                \
  "), 17, 4) || '-' || substr(hex(" column "), 21)))"

struct Table {
  const char* name;
  const char* lines;  // a query whose one column is a line
};
// Those of schema.cc. Damage can put anything into a field, so texts are quoted.
constexpr Table kTables[] = {
    {"setting", "SELECT quote(key) || ' = ' || quote(value) FROM setting ORDER BY key"},
    {"layer",
     "SELECT " ID("id") " || ' parent ' || " ID(
         "parent") " || printf(' size_bytes %d stored_bytes %d created_ns %d', size_bytes, "
                   "stored_bytes, created_ns) || ' created_by ' || quote(created_by) FROM "
                   "layer "
                   "ORDER BY created_ns, id"},
    {"layer_file",
     "SELECT " ID("layer") " || ' uses ' || " ID("file") " FROM layer_file ORDER BY layer, file"},
    {"image",
     "SELECT quote(name) || ' tag ' || quote(tag) || ' layer ' || " ID(
         "layer") " || printf(' created_ns %d', created_ns) FROM image ORDER BY name, tag"},
    {"device",
     "SELECT quote(name) || iif(kind = 0, ' overlay ', ' volume ') || " ID(
         "overl"
         "ay") " || printf(' written %d pending ', overlay_written) || " ID("pending_overlay") " ||"
                                                                                               " pr"
                                                                                               "int"
                                                                                               "f('"
                                                                                               " wr"
                                                                                               "itt"
                                                                                               "en "
                                                                                               "%d "
                                                                                               "bas"
                                                                                               "e "
                                                                                               "', "
                                                                                               "pen"
                                                                                               "din"
                                                                                               "g_"
                                                                                               "wri"
                                                                                               "tte"
                                                                                               "n) "
                                                                                               "||"
                                                                                               " " ID(
                                                                                                   "base_layer") " || ' image ' || "
                                                                                                                 "quote(image) || ' layer ' "
                                                                                                                 "|| " ID(
                                                                                                                     "image_layer") " || "
                                                                                                                                    "' "
                                                                                                                                    "volum"
                                                                                                                                    "e_"
                                                                                                                                    "file "
                                                                                                                                    "' || "
                                                                                                                                    "quote"
                                                                                                                                    "(volu"
                                                                                                                                    "me_"
                                                                                                                                    "file)"
                                                                                                                                    " || "
                                                                                                                                    "print"
                                                                                                                                    "f(' "
                                                                                                                                    "size_"
                                                                                                                                    "bytes"
                                                                                                                                    " %d "
                                                                                                                                    "cap_"
                                                                                                                                    "bytes"
                                                                                                                                    " %d "
                                                                                                                                    "creat"
                                                                                                                                    "ed_"
                                                                                                                                    "ns "
                                                                                                                                    "%d', "
                                                                                                                                    "size_"
                                                                                                                                    "bytes"
                                                                                                                                    ", "
                                                                                                                                    "cap_"
                                                                                                                                    "bytes"
                                                                                                                                    ", "
                                                                                                                                    "creat"
                                                                                                                                    "ed_"
                                                                                                                                    "ns) "
                                                                                                                                    "FROM "
                                                                                                                                    "devic"
                                                                                                                                    "e "
                                                                                                                                    "ORDER"
                                                                                                                                    " BY "
                                                                                                                                    "nam"
                                                                                                                                    "e"},
    {"pin", "SELECT quote(token) || ' layer ' || " ID(
                "layer") " || ' owner ' || quote(owner) || printf(' created_ns %d', "
                         "created_ns) FROM pin "
                         "ORDER BY token"},
};
#undef ID

absl::Status DumpRows(Database& database, const Table& table, std::ostream& out) {
  Statement statement = database.Prepare(table.lines);
  while (true) {
    COWL_ASSIGN_OR_RETURN(const bool found, statement.Step());
    if (!found) return absl::OkStatus();
    const std::string line = OneLine(statement.TextAt(0));
    COWL_RETURN_IF_ERROR(statement.RowStatus());
    out << table.name << " " << line << "\n";
  }
}

}  // namespace

void DumpCatalog(const std::string& path, std::ostream& out) {
  const auto database = Database::Open(path, Database::Mode::kReadNothing);
  if (!database.ok()) {
    out << "damaged: " << Message(database.status()) << "\n";
    return;
  }
  for (const Table& table : kTables) {
    const absl::Status status = DumpRows(**database, table, out);
    if (!status.ok()) out << table.name << " damaged: " << Message(status) << "\n";
  }
}

}  // namespace cowl
