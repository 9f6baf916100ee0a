// mount_table.h: what is mounted where, as this process sees it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cowl {

struct MountEntry {
  std::string device_number;  // "7:0"
  std::string mount_point;
  std::string file_system;
  std::string source;
};

// In the order of mounting; later ones cover earlier ones at the same place.
std::vector<MountEntry> MountTable();

// Pure: a table in the form of /proc/self/mountinfo. Lines of another form are left out.
std::vector<MountEntry> ParseMountTable(std::string_view text);

// The topmost mount exactly at `path`; null when there is none.
const MountEntry* FindMount(const std::vector<MountEntry>& table, std::string_view path);

}  // namespace cowl
