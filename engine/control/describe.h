// describe.h: what the store reports, as JSON: the fields of --json. Pure.
#pragma once

#include <string>
#include <vector>

#include "control/json.h"
#include "cowl/store.h"

namespace cowl {

std::string TimeText(int64_t time_ns);  // RFC 3339, UTC, whole seconds

Json DescribeImage(const ImageInfo& image);
Json DescribeDevice(const DeviceInfo& device);  // an entry of `ls`, without `served` and `attached`
Json DescribeCreated(const DeviceInfo& device);  // what create, clone and volume create print
Json DescribeHistory(const std::vector<LayerInfo>& layers);
Json DescribeInspect(const InspectInfo& info);  // without `served`, `attached` and `mount`
Json DescribeMap(const std::vector<MapEntry>& entries);
Json DescribeDiff(const std::vector<DiffEntry>& entries);
Json DescribeUsage(const DiskUsage& usage);
Json DescribeTree(const std::vector<TreeNode>& nodes);
Json DescribeCheck(const CheckReport& report);
Json DescribeFrozen(const FrozenView& view);
FrozenView FrozenFromJson(const Json& json);

}  // namespace cowl
