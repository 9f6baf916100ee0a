#include "tools/cowl/progress_bar.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "base/size_text.h"
#include "tools/cowl/interrupt.h"

namespace cowl {
namespace {

constexpr auto kInterval = std::chrono::milliseconds(100);
constexpr int kBarCharsMax = 30;

int Columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

std::string TimeLeft(double seconds) {
  if (seconds > 359'999) return "--:--";
  const auto whole = static_cast<unsigned>(seconds + 0.5);
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof(text), "%u:%02u:%02u", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text, sizeof(text), "%02u:%02u", whole / 60, whole % 60);
  }
  return text;
}

}  // namespace

std::string ProgressLine(const std::string& label, uint64_t done_bytes, uint64_t total_bytes,
                         double seconds, int columns) {
  const double rate = seconds > 0 ? static_cast<double>(done_bytes) / seconds : 0;
  const std::string speed = absl::StrCat(FormatBytes(static_cast<uint64_t>(rate)), "/s");
  if (total_bytes == 0)
    return absl::StrCat(label, "  ", FormatBytes(done_bytes), "  ", speed).substr(0, columns - 1);
  const double share =
      std::min(1.0, static_cast<double>(done_bytes) / static_cast<double>(total_bytes));
  const uint64_t rest = total_bytes - std::min(done_bytes, total_bytes);
  const std::string left = rate > 0 ? TimeLeft(static_cast<double>(rest) / rate) : "--:--";
  const std::string words =
      absl::StrCat("  ", static_cast<int>(share * 100), "%  ", FormatBytes(done_bytes), " of ",
                   FormatBytes(total_bytes), "  ", speed, "  ", left, " left");
  const int room = columns - 1 - static_cast<int>(label.size() + words.size()) - 4;
  std::string bar;
  if (room >= 5) {
    const int chars = std::min(room, kBarCharsMax);
    const int filled = static_cast<int>(share * chars);
    bar = absl::StrCat("  [", std::string(filled, '#'), std::string(chars - filled, ' '), "]");
  }
  return absl::StrCat(label, bar, words).substr(0, columns - 1);
}

ProgressBar::ProgressBar(std::string label, bool is_quiet)
    : label_(std::move(label)), is_shown_(!is_quiet && ::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (is_drawn_) std::fputs("\r\033[K", stderr);
}

bool ProgressBar::Report(uint64_t done_bytes, uint64_t total_bytes) {
  if (Interrupted()) return false;
  if (!is_shown_) return true;
  std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  if (now - last_ < kInterval) return true;
  last_ = now;
  is_drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  std::fprintf(stderr, "\r%s\033[K",
               ProgressLine(label_, done_bytes, total_bytes, seconds, Columns()).c_str());
  return true;
}

}  // namespace cowl
