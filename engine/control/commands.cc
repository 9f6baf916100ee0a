#include "control/commands.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "control/describe.h"

namespace cowl {
namespace {

using Result = absl::StatusOr<Json>;
using Context = CommandContext;

bool Force(const Context& context) { return FlagOr(context.args, "force", false); }
absl::StatusOr<std::string> Text(const Context& context, const char* key) {
  return GetText(context.args, key);
}

Result Empty(const absl::Status& status) {
  if (!status.ok()) return status;
  return Json::object();
}

Json Listed(const char* key, Json list) {
  Json json;
  json[key] = std::move(list);
  return json;
}

Json Sealed(const SealInfo& info, bool with_pause) {
  Json json;
  json["image"] = info.image;
  json["layer"] = info.layer;
  if (with_pause) json["pause_us"] = info.pause_us;
  return json;
}

// Reading.

Result Images(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto images, context.store.Images());
  Json list = Json::array();
  for (const ImageInfo& image : images) list.push_back(DescribeImage(image));
  return Listed("images", std::move(list));
}

Result Devices(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto devices, context.store.Devices());
  Json list = Json::array();
  for (const DeviceInfo& device : devices) {
    Json json = DescribeDevice(device);
    json["served"] = context.server != nullptr;
    list.push_back(std::move(json));
  }
  return Listed("devices", std::move(list));
}

Result History(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  COWL_ASSIGN_OR_RETURN(const auto layers, context.store.History(image));
  return DescribeHistory(layers);
}

Result Inspect(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto name, Text(context, "name"));
  COWL_ASSIGN_OR_RETURN(const auto info, context.store.Inspect(name));
  Json json = DescribeInspect(info);
  json["served"] =
      context.server != nullptr ? Json(context.server->UrisOf(info.name)) : Json::array();
  return json;
}

Result Tree(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto nodes, context.store.Tree());
  return DescribeTree(nodes);
}

Result Usage(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto usage, context.store.Usage());
  return DescribeUsage(usage);
}

Result Map(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto name, Text(context, "name"));
  COWL_ASSIGN_OR_RETURN(const auto entries, context.store.Map(name));
  return DescribeMap(entries);
}

// Sorted, and neighbours of one type made one.
std::vector<DiffEntry> Merged(std::vector<DiffEntry> entries) {
  std::sort(entries.begin(), entries.end(),
            [](const DiffEntry& a, const DiffEntry& b) { return a.offset_bytes < b.offset_bytes; });
  std::vector<DiffEntry> merged;
  for (const DiffEntry& entry : entries) {
    const bool continues =
        !merged.empty() && merged.back().zero == entry.zero &&
        merged.back().offset_bytes + merged.back().length_bytes == entry.offset_bytes;
    if (continues) {
      merged.back().length_bytes += entry.length_bytes;
    } else {
      merged.push_back(entry);
    }
  }
  return merged;
}

Result Diff(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto a, Text(context, "a"));
  COWL_ASSIGN_OR_RETURN(auto entries, context.store.Diff(a, TextOr(context.args, "b", "")));
  return DescribeDiff(Merged(std::move(entries)));
}

Result Check(const Context& context) {
  COWL_ASSIGN_OR_RETURN(
      const auto report,
      context.store.Check(TextOr(context.args, "name", ""), FlagOr(context.args, "data", false),
                          FlagOr(context.args, "repair", false), context.session.progress));
  return DescribeCheck(report);
}

// Devices.

CreateOptions OptionsOf(const Context& context) {
  CreateOptions options;
  options.size_bytes = NumberOr(context.args, "size_bytes", 0);
  options.cap_bytes = NumberOr(context.args, "cap_bytes", 0);
  return options;
}

Result Create(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  COWL_ASSIGN_OR_RETURN(
      const auto device,
      context.store.Create(image, TextOr(context.args, "name", ""), OptionsOf(context)));
  return DescribeCreated(device);
}

Result CreateEmpty(const Context& context) {
  COWL_ASSIGN_OR_RETURN(
      const auto device,
      context.store.CreateEmpty(TextOr(context.args, "name", ""), OptionsOf(context)));
  return DescribeCreated(device);
}

Result CreateVolume(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto name, Text(context, "name"));
  COWL_ASSIGN_OR_RETURN(const auto size_bytes, GetNumber(context.args, "size_bytes"));
  COWL_ASSIGN_OR_RETURN(const auto device, context.store.CreateVolume(name, size_bytes));
  return DescribeCreated(device);
}

Result Clone(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto source, Text(context, "device"));
  COWL_ASSIGN_OR_RETURN(const auto device,
                        context.store.Clone(source, TextOr(context.args, "name", "")));
  return DescribeCreated(device);
}

Result Reset(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto device, Text(context, "device"));
  return Empty(context.store.Reset(device, Force(context)));
}

Result Resize(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto device, Text(context, "device"));
  COWL_ASSIGN_OR_RETURN(const auto size_bytes, GetNumber(context.args, "size_bytes"));
  return Empty(context.store.Resize(device, size_bytes, Force(context)));
}

Result RemoveDevice(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto device, Text(context, "device"));
  return Empty(context.store.RemoveDevice(device, Force(context)));
}

// Images.

Result Snapshot(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto device, Text(context, "device"));
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  COWL_ASSIGN_OR_RETURN(const auto info, context.store.Snapshot(device, image, Force(context)));
  return Sealed(info, /*with_pause=*/true);
}

Result Commit(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto device, Text(context, "device"));
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  COWL_ASSIGN_OR_RETURN(const auto info, context.store.Commit(device, image, Force(context)));
  return Sealed(info, /*with_pause=*/false);
}

Result Flatten(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  COWL_ASSIGN_OR_RETURN(const auto new_image, Text(context, "new"));
  COWL_ASSIGN_OR_RETURN(const auto info, context.store.Flatten(image, new_image, Force(context),
                                                               context.session.progress));
  return Sealed(info, /*with_pause=*/false);
}

Result Tag(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  COWL_ASSIGN_OR_RETURN(const auto new_image, Text(context, "new"));
  return Empty(context.store.Tag(image, new_image, Force(context)));
}

Result Rename(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto old_name, Text(context, "old"));
  COWL_ASSIGN_OR_RETURN(const auto new_name, Text(context, "new"));
  return Empty(context.store.Rename(old_name, new_name, Force(context)));
}

Result RemoveImage(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  return Empty(context.store.RemoveImage(image, Force(context)));
}

// Import and export: what they need of the store before and after their long work.

Result CheckFree(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  return Empty(context.store.CheckFree(image, Force(context)));
}

Result Register(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto image, Text(context, "image"));
  StagedLayer staged;
  COWL_ASSIGN_OR_RETURN(staged.path, Text(context, "path"));
  staged.parent = TextOr(context.args, "parent", "");
  staged.created_by = TextOr(context.args, "created_by", "");
  COWL_ASSIGN_OR_RETURN(const auto info, context.store.Register(image, staged, Force(context)));
  return DescribeImage(info);
}

Result Freeze(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto name, Text(context, "name"));
  COWL_ASSIGN_OR_RETURN(const auto view, context.store.Freeze(name, context.session.client_pid));
  return DescribeFrozen(view);
}

Result Release(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const auto token, Text(context, "token"));
  return Empty(context.store.Release(token));
}

Result CollectGarbage(const Context& context) {
  COWL_ASSIGN_OR_RETURN(const uint64_t freed_bytes, context.store.CollectGarbage());
  Json json;
  json["freed_bytes"] = freed_bytes;
  return json;
}

constexpr Command kCommands[] = {
    {"images", true, Images},
    {"ls", true, Devices},
    {"history", true, History},
    {"inspect", true, Inspect},
    {"tree", true, Tree},
    {"df", true, Usage},
    {"map", true, Map},
    {"diff", true, Diff},
    {"check", true, Check},
    {"check_free", false, CheckFree},
    {"create", false, Create},
    {"create_empty", false, CreateEmpty},
    {"volume create", false, CreateVolume},
    {"clone", false, Clone},
    {"reset", false, Reset},
    {"resize", false, Resize},
    {"rm", false, RemoveDevice},
    {"snapshot", false, Snapshot},
    {"commit", false, Commit},
    {"flatten", false, Flatten},
    {"tag", false, Tag},
    {"rename", false, Rename},
    {"rmi", false, RemoveImage},
    {"register", false, Register},
    {"freeze", false, Freeze},
    {"release", false, Release},
    {"gc", false, CollectGarbage},
};

}  // namespace

const Command* FindCommand(const std::string& verb) {
  const auto found = std::find_if(std::begin(kCommands), std::end(kCommands),
                                  [&](const Command& command) { return verb == command.verb; });
  return found == std::end(kCommands) ? nullptr : &*found;
}

absl::StatusOr<Json> RunCommand(Store& store, const ServerFacts* server, const std::string& verb,
                                const Json& args, Session& session) {
  const Command* command = FindCommand(verb);
  if (command == nullptr) {
    return InvalidArgument(absl::StrCat("there is no command ", verb.substr(0, 40)));
  }
  return command->run({store, server, args, session});
}

bool ReadsOnly(const std::string& verb, const Json& args) {
  const Command* command = FindCommand(verb);
  return command != nullptr && command->reads_only && !FlagOr(args, "repair", false);
}

}  // namespace cowl
