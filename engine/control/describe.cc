#include "control/describe.h"

#include <nlohmann/json.hpp>

#include "absl/time/time.h"

namespace cowl {
namespace {

Json TextOrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json CapOrNull(uint64_t cap_bytes) { return cap_bytes == 0 ? Json(nullptr) : Json(cap_bytes); }

const char* KindName(InspectInfo::Kind kind) {
  switch (kind) {
    case InspectInfo::Kind::kImage:
      return "image";
    case InspectInfo::Kind::kOverlay:
      return "overlay";
    case InspectInfo::Kind::kVolume:
      return "volume";
  }
  return "overlay";
}

const char* KindName(TreeNode::Kind kind) {
  switch (kind) {
    case TreeNode::Kind::kLayer:
      return "layer";
    case TreeNode::Kind::kImage:
      return "image";
    case TreeNode::Kind::kDevice:
      return "device";
  }
  return "layer";
}

Json DescribeLayer(const LayerInfo& layer) {
  Json json;
  json["id"] = layer.id;
  json["path"] = layer.path;
  json["stored_bytes"] = layer.stored_bytes;
  return json;
}

void AddSpace(const SpaceInfo& space, Json& json) {
  json["logical_bytes"] = space.logical_bytes;
  json["stored_bytes"] = space.stored_bytes;
  json["disk_bytes"] = space.disk_bytes;
  json["reclaimable_bytes"] = space.reclaimable_bytes;
}

Json DescribeSpaces(const std::vector<SpaceInfo>& spaces) {
  Json list = Json::array();
  for (const SpaceInfo& space : spaces) {
    Json json;
    json["name"] = space.name;
    AddSpace(space, json);
    list.push_back(std::move(json));
  }
  return list;
}

Json DescribeFindings(const std::vector<Finding>& findings) {
  Json list = Json::array();
  for (const Finding& finding : findings) {
    Json json;
    json["path"] = finding.path;
    json["offset_bytes"] = finding.offset_bytes;
    json["message"] = finding.message;
    list.push_back(std::move(json));
  }
  return list;
}

}  // namespace

std::string TimeText(int64_t time_ns) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixNanos(time_ns), absl::UTCTimeZone());
}

Json DescribeImage(const ImageInfo& image) {
  Json json;
  json["name"] = image.name;
  json["tag"] = image.tag;
  json["layer_count"] = static_cast<unsigned>(image.layer_count);
  json["size_bytes"] = image.size_bytes;
  json["stored_bytes"] = image.stored_bytes;
  json["created"] = TimeText(image.created_ns);
  return json;
}

Json DescribeDevice(const DeviceInfo& device) {
  Json json;
  json["name"] = device.name;
  json["image"] = TextOrNull(device.image);
  json["kind"] = device.kind == DeviceKind::kVolume ? "volume" : "overlay";
  json["size_bytes"] = device.size_bytes;
  json["stored_bytes"] = device.stored_bytes;
  json["disk_bytes"] = device.disk_bytes;
  json["cap_bytes"] = CapOrNull(device.cap_bytes);
  json["users"] = device.users;
  return json;
}

Json DescribeCreated(const DeviceInfo& device) {
  Json json;
  json["name"] = device.name;
  json["image"] = TextOrNull(device.image);
  json["size_bytes"] = device.size_bytes;
  return json;
}

Json DescribeHistory(const std::vector<LayerInfo>& layers) {
  Json list = Json::array();
  for (const LayerInfo& layer : layers) {
    Json json;
    json["layer"] = layer.id;
    json["created"] = TimeText(layer.created_ns);
    json["created_by"] = layer.created_by;
    json["stored_bytes"] = layer.stored_bytes;
    json["hidden_bytes"] = layer.hidden_bytes;
    list.push_back(std::move(json));
  }
  Json json;
  json["history"] = std::move(list);
  return json;
}

Json DescribeInspect(const InspectInfo& info) {
  Json json;
  json["kind"] = KindName(info.kind);
  json["name"] = info.name;
  json["size_bytes"] = info.size_bytes;
  json["image"] = TextOrNull(info.image);
  json["cap_bytes"] = CapOrNull(info.cap_bytes);
  Json layers = Json::array();
  for (const LayerInfo& layer : info.layers) layers.push_back(DescribeLayer(layer));
  json["layers"] = std::move(layers);
  Json overlay(nullptr);
  if (!info.overlay_path.empty()) overlay = Json::object({{"path", info.overlay_path}});
  json["overlay"] = std::move(overlay);
  return json;
}

Json DescribeMap(const std::vector<MapEntry>& entries) {
  Json list = Json::array();
  for (const MapEntry& entry : entries) {
    Json json;
    json["offset_bytes"] = entry.offset_bytes;
    json["length_bytes"] = entry.length_bytes;
    json["type"] = entry.zero ? "zero" : "data";
    json["depth"] = entry.depth;
    json["layer"] = TextOrNull(entry.layer);
    list.push_back(std::move(json));
  }
  Json json;
  json["extents"] = std::move(list);
  return json;
}

Json DescribeDiff(const std::vector<DiffEntry>& entries) {
  Json list = Json::array();
  for (const DiffEntry& entry : entries) {
    Json json;
    json["offset_bytes"] = entry.offset_bytes;
    json["length_bytes"] = entry.length_bytes;
    json["type"] = entry.zero ? "zero" : "data";
    list.push_back(std::move(json));
  }
  Json json;
  json["extents"] = std::move(list);
  return json;
}

Json DescribeUsage(const DiskUsage& usage) {
  Json json = Json::object();
  AddSpace(usage.total, json);
  json["host_free_bytes"] = usage.host_free_bytes;
  json["host_total_bytes"] = usage.host_total_bytes;
  json["images"] = DescribeSpaces(usage.images);
  json["devices"] = DescribeSpaces(usage.devices);
  return json;
}

Json DescribeTree(const std::vector<TreeNode>& nodes) {
  Json list = Json::array();
  for (const TreeNode& node : nodes) {
    Json json;
    json["id"] = node.id;
    json["kind"] = KindName(node.kind);
    json["name"] = node.name;
    json["parent"] = TextOrNull(node.parent);
    list.push_back(std::move(json));
  }
  Json json;
  json["nodes"] = std::move(list);
  return json;
}

Json DescribeCheck(const CheckReport& report) {
  Json json;
  json["errors"] = DescribeFindings(report.errors);
  json["leaks"] = DescribeFindings(report.leaks);
  json["checked_bytes"] = report.checked_bytes;
  return json;
}

Json DescribeFrozen(const FrozenView& view) {
  Json json;
  json["token"] = view.token;
  json["size_bytes"] = view.size_bytes;
  Json layers = Json::array();
  for (const LayerInfo& layer : view.layers) layers.push_back(DescribeLayer(layer));
  json["layers"] = std::move(layers);
  json["volume_path"] = view.volume_path;
  json["origin_layer"] = view.origin_layer;
  return json;
}

FrozenView FrozenFromJson(const Json& json) {
  FrozenView view;
  view.token = TextOr(json, "token", "");
  view.size_bytes = NumberOr(json, "size_bytes", 0);
  view.volume_path = TextOr(json, "volume_path", "");
  view.origin_layer = TextOr(json, "origin_layer", "");
  const auto layers = json.find("layers");
  if (layers == json.end() || !layers->is_array()) return view;
  for (const Json& layer : *layers) {
    LayerInfo info;
    info.id = TextOr(layer, "id", "");
    info.path = TextOr(layer, "path", "");
    info.stored_bytes = NumberOr(layer, "stored_bytes", 0);
    view.layers.push_back(std::move(info));
  }
  return view;
}

}  // namespace cowl
