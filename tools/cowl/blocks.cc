// diff, map, check, inspect: down to the blocks.
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/size_text.h"
#include "base/status.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/interrupt.h"
#include "tools/cowl/progress_bar.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr auto kRight = Table::kRight;
constexpr int kCorrupt = 2;
constexpr int kLeaked = 3;

std::string Number(const Json& object, const char* key) {
  return absl::StrCat(NumberOr(object, key, 0));
}

// A store whose catalog is so damaged that nothing else can be looked at: that is a finding, too.
absl::StatusOr<Json> DamagedCatalog(const Invocation& invocation, const absl::Status& damage) {
  COWL_ASSIGN_OR_RETURN(const std::string store, FindStoreDirectory(invocation));
  Json error;
  error["path"] = store + "/catalog.db";
  error["offset_bytes"] = 0u;
  error["message"] = Message(damage);
  Json document;
  document["errors"] = Json::array();
  document["errors"].push_back(std::move(error));
  document["leaks"] = Json::array();
  document["checked_bytes"] = 0u;
  return document;
}

}  // namespace

absl::Status RunDiff(const Invocation& invocation, Output& output) {
  const Json args = {{"a", invocation.Text("A")}, {"b", invocation.Text("B")}};
  if (invocation.Has("--files")) return RunDiffFiles(invocation, output);
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "diff", args));
  Table table({{"OFFSET", kRight}, {"LENGTH", kRight}, {"TYPE"}});
  uint64_t total_bytes = 0;
  size_t count = 0;
  for (const Json& extent : ListOf(document, "extents")) {
    total_bytes += NumberOr(extent, "length_bytes", 0);
    ++count;
    table.Add({Number(extent, "offset_bytes"), Number(extent, "length_bytes"),
               TextOr(extent, "type", "")});
  }
  PrintResult(
      output, document,
      absl::StrCat(table.Text(), "total ", total_bytes, " bytes (", FormatBytes(total_bytes),
                   ") in ", count, count == 1 ? " extent\n" : " extents\n"));
  return absl::OkStatus();
}

absl::Status RunMap(const Invocation& invocation, Output& output) {
  const Json args = {{"name", invocation.Text("NAME")}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "map", args));
  Table table({{"OFFSET", kRight}, {"LENGTH", kRight}, {"TYPE"}, {"DEPTH", kRight}, {"LAYER"}});
  for (const Json& extent : ListOf(document, "extents")) {
    table.Add({Number(extent, "offset_bytes"), Number(extent, "length_bytes"),
               TextOr(extent, "type", ""), Number(extent, "depth"), TextOr(extent, "layer", "-")});
  }
  PrintResult(output, document, table.Text());
  return absl::OkStatus();
}

namespace {

void AddFindings(const Json& document, const char* key, const char* what, std::string& text) {
  for (const Json& finding : ListOf(document, key)) {
    absl::StrAppend(&text, what, ": ", TextOr(finding, "path", ""), " at ",
                    Number(finding, "offset_bytes"), ": ", TextOr(finding, "message", ""), "\n");
  }
}

}  // namespace

absl::Status RunCheck(const Invocation& invocation, Output& output) {
  const Json args = {{"name", invocation.Text("NAME")},
                     {"data", invocation.Has("--data")},
                     {"repair", invocation.Has("--repair")}};
  CatchInterrupts();
  ProgressBar bar("check", output.quiet());
  absl::StatusOr<Json> called = Call(invocation, "check", args, bar.Callback());
  if (absl::IsDataLoss(called.status())) called = DamagedCatalog(invocation, called.status());
  COWL_ASSIGN_OR_RETURN(const Json document, std::move(called));
  const size_t error_count = ListOf(document, "errors").size();
  const size_t leak_count = ListOf(document, "leaks").size();
  std::string text;
  AddFindings(document, "errors", "error", text);
  AddFindings(document, "leaks", "leak", text);
  absl::StrAppend(&text, error_count, error_count == 1 ? " error, " : " errors, ", leak_count,
                  leak_count == 1 ? " leak, " : " leaks, ",
                  FormatBytes(NumberOr(document, "checked_bytes", 0)), " checked\n");
  PrintResult(output, document, text);
  output.exit_status = error_count > 0 ? kCorrupt : leak_count > 0 ? kLeaked : 0;
  return absl::OkStatus();
}

namespace {

std::string InspectText(const Json& document) {
  std::string text;
  const auto line = [&text](const char* key, const std::string& value) {
    absl::StrAppend(&text, key, ":", std::string(10 - std::string(key).size(), ' '), value, "\n");
  };
  line("name", TextOr(document, "name", ""));
  line("kind", TextOr(document, "kind", ""));
  line("size", FormatBytes(NumberOr(document, "size_bytes", 0)));
  if (TextOr(document, "kind", "") != "image") {
    const uint64_t cap_bytes = NumberOr(document, "cap_bytes", 0);
    line("image", TextOr(document, "image", "none"));
    line("cap", cap_bytes == 0 ? "none" : FormatBytes(cap_bytes));
  }
  line("attached", TextOr(document, "attached", "no"));
  line("mount", TextOr(document, "mount", "no"));
  const Json& served = ListOf(document, "served");
  if (served.empty()) line("served", "no");
  for (const Json& uri : served)
    line("served", uri.is_string() ? *uri.get_ptr<const Json::string_t*>() : "");
  if (const auto overlay = document.find("overlay");
      overlay != document.end() && overlay->is_object()) {
    line("overlay", TextOr(*overlay, "path", ""));
  }
  for (const Json& layer : ListOf(document, "layers")) {
    line("layer", absl::StrCat(TextOr(layer, "id", ""), "  ",
                               FormatBytes(NumberOr(layer, "stored_bytes", 0)), "  ",
                               TextOr(layer, "path", "")));
  }
  return text;
}

}  // namespace

absl::Status RunInspect(const Invocation& invocation, Output& output) {
  const Json args = {{"name", invocation.Text("NAME")}};
  COWL_ASSIGN_OR_RETURN(Json document, Call(invocation, "inspect", args));
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(invocation.store));
  const auto found = attached.find(TextOr(document, "name", ""));
  const bool is_attached = found != attached.end();
  document["attached"] = is_attached ? Json(found->second.device) : Json(nullptr);
  document["mount"] =
      is_attached && !found->second.mount.empty() ? Json(found->second.mount) : Json(nullptr);
  PrintResult(output, document, InspectText(document));
  return absl::OkStatus();
}

}  // namespace cowl
