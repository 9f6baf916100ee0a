#include "tools/cowl/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace cowl {
namespace {

int WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

std::string OneLine(std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return line;
}

// Columns, not bytes: continuation bytes of UTF-8 take no room.
size_t Width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

void Output::PrintDocument(const Json& document) {
  Json whole;
  whole["schema"] = 1u;
  for (const auto& [key, value] : document.items()) whole[key] = value;
  text_ += JsonDocument(whole);
}

absl::Status Output::Flush() {
  const int error_number = WriteAll(STDOUT_FILENO, text_);
  text_.clear();
  if (error_number == 0) return absl::OkStatus();
  return ErrnoStatus(error_number, "write the result to", "standard output");
}

void Output::Note(std::string_view text) const {
  if (!invocation_.quiet) Warn(text);
}

void Output::Warn(std::string_view text) const { PrintError(invocation_.verb->name, text); }

void PrintError(std::string_view verb, std::string_view message) {
  const std::string middle = verb.empty() ? "" : absl::StrCat(Absl(verb), ": ");
  WriteAll(STDERR_FILENO, absl::StrCat("cowl: ", middle, OneLine(message), "\n"));
}

std::string Table::Text() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(Width(column.title));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }
  std::string text;
  const auto add_row = [&](const std::vector<std::string>& row) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string room(widths[i] - Width(row[i]), ' ');
      if (i > 0) line += "  ";
      line += columns_[i].align == kRight ? room + row[i] : row[i] + room;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.emplace_back(column.title);
  add_row(titles);
  for (const auto& row : rows_) add_row(row);
  return text;
}

void SecureStandardStreams() {
  // Opened for the wrong direction: using them fails as a closed one would.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0) continue;
    const int mode = fd == STDOUT_FILENO ? O_RDONLY : O_WRONLY;
    [[maybe_unused]] const int opened = ::open("/dev/null", mode);  // the lowest free number: fd
  }
}

}  // namespace cowl
