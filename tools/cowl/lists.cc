// images, ls, history, tree, df, gc: what the store reports, as tables.
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/size_text.h"
#include "base/status.h"
#include "base/units.h"
#include "control/json.h"
#include "tools/cowl/attached.h"
#include "tools/cowl/call.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

std::string Size(const Json& object, const char* key) {
  return FormatBytes(NumberOr(object, key, 0));
}

constexpr auto kRight = Table::kRight;

}  // namespace

absl::Status RunImages(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "images", Json::object()));
  Table table(
      {{"NAME"}, {"TAG"}, {"LAYERS", kRight}, {"SIZE", kRight}, {"STORED", kRight}, {"CREATED"}});
  std::string names;
  for (const Json& image : ListOf(document, "images")) {
    const std::string name = TextOr(image, "name", ""), tag = TextOr(image, "tag", "");
    absl::StrAppend(&names, name, ":", tag, "\n");
    table.Add({name, tag, absl::StrCat(NumberOr(image, "layer_count", 0)),
               Size(image, "size_bytes"), Size(image, "stored_bytes"),
               TextOr(image, "created", "")});
  }
  PrintResult(output, document, output.quiet() ? names : table.Text());
  return absl::OkStatus();
}

absl::Status RunLs(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(Json document, Call(invocation, "ls", Json::object()));
  COWL_ASSIGN_OR_RETURN(const AttachedMap attached, ListAttached(invocation.store));
  Table table({{"NAME"},
               {"IMAGE"},
               {"KIND"},
               {"SIZE", kRight},
               {"STORED", kRight},
               {"DISK", kRight},
               {"SERVED"},
               {"ATTACHED"}});
  std::string names;
  for (Json& device : document["devices"]) {
    const std::string name = TextOr(device, "name", "");
    const auto found = attached.find(name);
    device["attached"] = found == attached.end() ? Json(nullptr) : Json(found->second.device);
    absl::StrAppend(&names, name, "\n");
    table.Add({name, TextOr(device, "image", "-"), TextOr(device, "kind", ""),
               Size(device, "size_bytes"), Size(device, "stored_bytes"), Size(device, "disk_bytes"),
               FlagOr(device, "served", false) ? "yes" : "no", TextOr(device, "attached", "-")});
  }
  PrintResult(output, document, output.quiet() ? names : table.Text());
  return absl::OkStatus();
}

absl::Status RunHistory(const Invocation& invocation, Output& output) {
  const Json args = {{"image", WholeImageName(invocation.Text("IMAGE"))}};
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "history", args));
  Table table({{"LAYER"}, {"CREATED"}, {"STORED", kRight}, {"HIDDEN", kRight}, {"CREATED BY"}});
  for (const Json& layer : ListOf(document, "history")) {
    table.Add({TextOr(layer, "layer", ""), TextOr(layer, "created", ""),
               Size(layer, "stored_bytes"), Size(layer, "hidden_bytes"),
               TextOr(layer, "created_by", "")});
  }
  PrintResult(output, document, table.Text());
  return absl::OkStatus();
}

namespace {

constexpr int kTreeDepthMax =
    4096;  // far beyond any chain: a parent that is its own descendant cannot hang us

void AddBranch(const std::multimap<std::string, const Json*>& children, const std::string& parent,
               int depth, std::string& text) {
  if (depth > kTreeDepthMax) return;
  const auto [begin, end] = children.equal_range(parent);
  for (auto child = begin; child != end; ++child) {
    const Json& node = *child->second;
    const std::string id = TextOr(node, "id", ""), name = TextOr(node, "name", "");
    const std::string kind = TextOr(node, "kind", "");
    // A layer has an id of its own, and a name that says where it came from.
    const std::string shown =
        kind == "layer" && !name.empty() ? absl::StrCat(id, "  ", name) : name;
    absl::StrAppend(&text, std::string(static_cast<size_t>(depth) * 2, ' '), kind, " ",
                    shown.empty() ? id : shown, "\n");
    if (!id.empty()) AddBranch(children, id, depth + 1, text);
  }
}

}  // namespace

absl::Status RunTree(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "tree", Json::object()));
  std::multimap<std::string, const Json*> children;
  for (const Json& node : ListOf(document, "nodes"))
    children.emplace(TextOr(node, "parent", ""), &node);
  std::string text;
  AddBranch(children, "", 0, text);
  PrintResult(output, document, text);
  return absl::OkStatus();
}

namespace {

void AddSpaces(const Json& document, const char* key, const char* kind, Table& table) {
  for (const Json& space : ListOf(document, key)) {
    table.Add({kind, TextOr(space, "name", ""), Size(space, "logical_bytes"),
               Size(space, "stored_bytes"), Size(space, "disk_bytes"),
               Size(space, "reclaimable_bytes")});
  }
}

void WarnWhenFull(const Invocation& invocation, const Json& document, const Output& output) {
  const uint64_t free_bytes = NumberOr(document, "host_free_bytes", 0);
  const uint64_t total_bytes = NumberOr(document, "host_total_bytes", 0);
  if (total_bytes == 0 || (free_bytes >= kGiB && free_bytes >= total_bytes / 20)) return;
  output.Warn(absl::StrCat(
      "the disk of store ", invocation.store, " is nearly full: ", FormatBytes(free_bytes), " of ",
      FormatBytes(total_bytes), " are free: remove devices or images, or give it more room"));
}

}  // namespace

absl::Status RunDf(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "df", Json::object()));
  Table table({{"KIND"},
               {"NAME"},
               {"LOGICAL", kRight},
               {"STORED", kRight},
               {"DISK", kRight},
               {"RECLAIMABLE", kRight}});
  AddSpaces(document, "images", "image", table);
  AddSpaces(document, "devices", "device", table);
  table.Add({"total", "", Size(document, "logical_bytes"), Size(document, "stored_bytes"),
             Size(document, "disk_bytes"), Size(document, "reclaimable_bytes")});
  PrintResult(output, document, table.Text());
  WarnWhenFull(invocation, document, output);
  return absl::OkStatus();
}

absl::Status RunGc(const Invocation& invocation, Output& output) {
  COWL_ASSIGN_OR_RETURN(const Json document, Call(invocation, "gc", Json::object()));
  PrintResult(output, document, absl::StrCat("freed ", Size(document, "freed_bytes"), "\n"));
  return absl::OkStatus();
}

}  // namespace cowl
