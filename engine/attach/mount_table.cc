#include "attach/mount_table.h"

#include "attach/text_file.h"

namespace cowl {
namespace {

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// The table writes blanks and backslashes as \ooo.
std::string Unescape(std::string_view text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) && IsOctal(text[i + 2]) &&
        IsOctal(text[i + 3])) {
      plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                 (text[i + 3] - '0'));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

}  // namespace

std::vector<MountEntry> ParseMountTable(std::string_view text) {
  std::vector<MountEntry> table;
  for (const std::string_view line : SplitWords(text, '\n')) {
    // id parent major:minor root mount-point options [tags...] - type source super-options
    const std::vector<std::string_view> words = SplitWords(line, ' ');
    size_t dash = 6;
    while (dash < words.size() && words[dash] != "-") ++dash;
    if (dash + 2 >= words.size()) continue;
    table.push_back({std::string(words[2]), Unescape(words[4]), Unescape(words[dash + 1]),
                     Unescape(words[dash + 2])});
  }
  return table;
}

std::vector<MountEntry> MountTable() {
  const absl::StatusOr<std::string> text = ReadTextFile("/proc/self/mountinfo");
  return text.ok() ? ParseMountTable(*text) : std::vector<MountEntry>();
}

const MountEntry* FindMount(const std::vector<MountEntry>& table, std::string_view path) {
  const MountEntry* found = nullptr;
  for (const MountEntry& entry : table) {
    if (entry.mount_point == path) found = &entry;
  }
  return found;
}

}  // namespace cowl
