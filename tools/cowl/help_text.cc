#include "tools/cowl/help_text.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "control/version.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

constexpr size_t kLineChars = 80;

bool IsShown(const Option& option) { return !option.is_hidden && !option.is_unsupported; }

std::string OptionText(const Option& option) {
  const std::string names = absl::StrReplaceAll(option.name, {{",", ", "}});
  return option.value.name == nullptr ? names : absl::StrCat(names, " ", option.value.name);
}

std::string OptionHelp(const Option& option) {
  if (option.value.kind != ValueKind::kChoice || option.value.name == nullptr) return option.help;
  return absl::StrCat(option.help, " (", option.value.choices, ")");
}

struct Line {
  std::string left;
  std::string right;
};

std::vector<Line> OptionLines(const Verb& verb) {
  std::vector<Line> lines;
  for (const Option& option : verb.options) {
    if (IsShown(option)) lines.push_back({OptionText(option), OptionHelp(option)});
  }
  if (verb.force != nullptr) lines.push_back({"-f, --force", verb.force});
  return lines;
}

std::vector<Line> GlobalLines() {
  std::vector<Line> lines;
  for (const Option& option : GlobalOptions()) lines.push_back({OptionText(option), option.help});
  return lines;
}

// `text` in lines of kLineChars that begin with `indent` blanks; the first one stands behind what
// is there already.
std::string Wrapped(const std::string& text, size_t indent) {
  std::string result;
  size_t column = indent;
  bool is_first = true;
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (!is_first && column + 1 + word.size() > kLineChars) {
      absl::StrAppend(&result, "\n", std::string(indent, ' '));
      column = indent;
    } else if (!is_first) {
      result += ' ';
      ++column;
    }
    absl::StrAppend(&result, word);
    column += word.size();
    is_first = false;
  }
  return result;
}

std::string Columns(const std::vector<Line>& lines) {
  size_t width = 0;
  for (const Line& line : lines) width = std::max(width, line.left.size());
  std::string text;
  for (const Line& line : lines) {
    absl::StrAppend(&text, "  ", line.left, std::string(width - line.left.size() + 2, ' '),
                    Wrapped(line.right, width + 4), "\n");
  }
  return text;
}

std::string Roff(const std::string& text) {
  std::string escaped = absl::StrReplaceAll(text, {{"\\", "\\e"}, {"-", "\\-"}});
  if (!escaped.empty() && (escaped[0] == '.' || escaped[0] == '\'')) escaped = "\\&" + escaped;
  return escaped;
}

std::string RoffLines(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines)
    absl::StrAppend(&text, ".TP\n.B ", Roff(line.left), "\n", Roff(line.right), "\n");
  return text;
}

std::string RoffHead(const std::string& name, const std::string& summary) {
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  return absl::StrCat(".TH ", Roff(upper), " 1 \"\" \"cowl ", ProgramVersion(),
                      "\" \"cowl\"\n.SH NAME\n", Roff(name), " \\- ", Roff(summary), "\n");
}

constexpr char kAbout[] =
    "cowl keeps disk images as immutable layers and gives each container or machine a thin "
    "writable device on top, with "
    "copy-on-write for each 4 KiB block. Images and devices are served over NBD.";
constexpr char kSizes[] =
    "Sizes are digits and at most one of K M G T (powers of 1024), a multiple of 512 from 512 to "
    "64T. Images are NAME or "
    "NAME:TAG (latest when no tag is given), devices NAME.";
constexpr char kStatus[] =
    "0 done, 2 wrong usage, 1 anything else, with one line on standard error. check: 0 clean, 2 "
    "corrupt, 3 space leaked, 1 could "
    "not check. run: that of COMMAND.";

}  // namespace

std::string ManName(const Verb& verb) {
  return "cowl-" + absl::StrReplaceAll(verb.name, {{" ", "-"}});
}

std::string Synopsis(const Verb& verb) {
  std::string text = absl::StrCat("cowl ", verb.name);
  for (const Value& positional : verb.positionals) {
    absl::StrAppend(&text, positional.is_required ? " " : " [", positional.name,
                    positional.is_required ? "" : "]");
  }
  if (!OptionLines(verb).empty()) text += " [options]";
  if (verb.takes_command) text += " -- COMMAND...";
  return text;
}

std::string HelpOverview() {
  std::vector<Line> lines;
  for (const Verb& verb : Verbs()) {
    if (verb.run != nullptr) lines.push_back({verb.name, verb.summary});
  }
  return absl::StrCat(
      "cowl: copy-on-write disks from layered images\n\nusage: cowl [global options] VERB ...\n\n",
      Wrapped(kAbout, 0), "\n\nverbs:\n", Columns(lines),
      "\nglobal options, before or after the verb:\n", Columns(GlobalLines()), "\n",
      Wrapped(kSizes, 0), "\n\ncowl help VERB tells more, with examples.\n");
}

std::string HelpOf(const Verb& verb) {
  std::string text =
      absl::StrCat("cowl ", verb.name, ": ", verb.summary, "\n\nusage: ", Synopsis(verb), "\n");
  for (const absl::string_view paragraph :
       absl::StrSplit(verb.description, "\n\n", absl::SkipEmpty())) {
    absl::StrAppend(&text, "\n", Wrapped(std::string(paragraph), 0), "\n");
  }
  if (const auto lines = OptionLines(verb); !lines.empty())
    absl::StrAppend(&text, "\noptions:\n", Columns(lines));
  absl::StrAppend(&text, "\nglobal options:\n", Columns(GlobalLines()));
  if (verb.examples.empty()) return text;
  absl::StrAppend(&text, "\nexamples:\n");
  for (const Example& example : verb.examples) {
    absl::StrAppend(&text, "  ", example.command, "\n");
    if (*example.what != '\0') absl::StrAppend(&text, "      ", example.what, "\n");
  }
  return text;
}

std::string ManOverview() {
  std::vector<Line> lines;
  for (const Verb& verb : Verbs()) {
    if (verb.run != nullptr)
      lines.push_back({verb.name, absl::StrCat(verb.summary, "; see ", ManName(verb), "(1)")});
  }
  return absl::StrCat(RoffHead("cowl", "copy-on-write disks from layered images"),
                      ".SH SYNOPSIS\n.B cowl\n[global options]\n.I VERB\n\\&...\n.SH DESCRIPTION\n",
                      Roff(kAbout), "\n.PP\n", Roff(kSizes), "\n.SH VERBS\n", RoffLines(lines),
                      ".SH GLOBAL OPTIONS\nBefore or after the verb.\n", RoffLines(GlobalLines()),
                      ".SH EXIT STATUS\n", Roff(kStatus), "\n");
}

std::string ManOf(const Verb& verb) {
  std::string text = absl::StrCat(RoffHead(ManName(verb), verb.summary), ".SH SYNOPSIS\n.B ",
                                  Roff(Synopsis(verb)), "\n.SH DESCRIPTION\n");
  bool is_first = true;
  for (const absl::string_view paragraph :
       absl::StrSplit(verb.description, "\n\n", absl::SkipEmpty())) {
    absl::StrAppend(&text, is_first ? "" : ".PP\n", Roff(std::string(paragraph)), "\n");
    is_first = false;
  }
  if (const auto lines = OptionLines(verb); !lines.empty())
    absl::StrAppend(&text, ".SH OPTIONS\n", RoffLines(lines));
  absl::StrAppend(&text, ".SH GLOBAL OPTIONS\n", RoffLines(GlobalLines()), ".SH EXIT STATUS\n",
                  Roff(kStatus), "\n");
  if (!verb.examples.empty()) absl::StrAppend(&text, ".SH EXAMPLES\n");
  for (const Example& example : verb.examples) {
    absl::StrAppend(&text, ".TP\n.B ", Roff(example.command), "\n", Roff(example.what), "\n");
  }
  return text + ".SH SEE ALSO\n.BR cowl (1)\n";
}

}  // namespace cowl
