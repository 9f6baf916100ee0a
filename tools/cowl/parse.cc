// The one file that sees CLI11. It only takes words apart: what they must look like is checked in
// check_values.cc.
#include "tools/cowl/parse.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "cowl/names.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

struct Bound {
  const Verb* verb = nullptr;
  CLI::App* app = nullptr;
  std::vector<std::pair<std::string, CLI::Option*>> values;
};

CLI::Option* AddOption(CLI::App& app, const Option& option) {
  if (option.value.name == nullptr) return app.add_flag(option.name)->disable_flag_override();
  CLI::Option* added =
      app.add_option(option.name, CLI::callback_t([](const CLI::results_t&) { return true; }));
  if (option.repeats)
    added->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->allow_extra_args(false);
  return added;
}

// "volume create" is a sub-command of a sub-command.
CLI::App* AddVerbApp(CLI::App& top, const std::string& name) {
  CLI::App* parent = &top;
  std::string last = name;
  if (const size_t space = name.find(' '); space != std::string::npos) {
    const std::string first = name.substr(0, space);
    last = name.substr(space + 1);
    const auto others =
        top.get_subcommands([&](CLI::App* app) { return app->get_name() == first; });
    parent = others.empty() ? top.add_subcommand(first) : others.front();
    parent->require_subcommand(0, 1)->fallthrough();
    parent->set_help_flag();
  }
  CLI::App* app = parent->add_subcommand(last);
  app->set_help_flag();
  return app->fallthrough();
}

Bound Bind(CLI::App& top, const Verb& verb) {
  Bound bound{&verb, AddVerbApp(top, verb.name), {}};
  for (const Option& option : verb.options) {
    bound.values.emplace_back(option.name, AddOption(*bound.app, option));
  }
  for (const Value& positional : verb.positionals) {
    bound.values.emplace_back(positional.name,
                              AddOption(*bound.app, Option{positional.name, positional, ""}));
  }
  return bound;
}

// Words after "--" belong to COMMAND, for the verb that takes one.
std::vector<std::string> SplitCommand(std::vector<std::string>& words) {
  const auto dashes = std::find(words.begin(), words.end(), "--");
  if (dashes == words.end()) return {};
  auto word = words.begin();
  while (word != dashes && word->starts_with('-'))
    word += *word == "--store" && word + 1 != dashes ? 2 : 1;
  const Verb* verb = word == dashes ? nullptr : FindVerb(*word);
  if (verb == nullptr || !verb->takes_command) return {};
  std::vector<std::string> command(dashes + 1, words.end());
  words.erase(dashes, words.end());
  return command;
}

// What CLI11 says of options in terms of its own, in ours.
std::string Reworded(const std::string& text) {
  const std::string option = text.substr(0, text.find(": "));
  if (text.ends_with(" missing")) return option + " needs a value";
  if (text.find(": At Most 1 ") != std::string::npos) return option + " is given more than once";
  const size_t override_at = text.find(" was given a disallowed flag override");
  if (override_at != std::string::npos)
    return absl::StrCat("--", text.substr(0, override_at), " takes no value");
  return text;
}

// CLI11's words for what is wrong, on one line and never too long.
absl::Status UsageOf(const CLI::Error& error) {
  std::string text = Reworded(error.what());
  if (text.size() > 200) text = text.substr(0, 200) + "...";
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '.')) text.pop_back();
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z')
    text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return InvalidArgument(text);
}

void TakeValues(const Bound& bound, Invocation& invocation) {
  invocation.verb = bound.verb;
  for (const auto& [name, option] : bound.values) {
    if (option->count() == 0) continue;
    invocation.values[name] =
        option->get_expected_max() == 0 ? CLI::results_t{""} : option->results();
  }
}

// Where `create` is to make a device on nothing no image is named: the first word is the device.
void TakeFirstWordAsName(Invocation& invocation) {
  if (!invocation.Has("--empty") || invocation.Has("NAME")) return;
  if (auto word = invocation.values.extract("IMAGE")) {
    word.key() = "NAME";
    invocation.values.insert(std::move(word));
  }
}

// The verb that was meant, even when parsing broke off behind it.
const Bound* Chosen(const CLI::App& top, const std::vector<Bound>& verbs) {
  const Bound* chosen = nullptr;
  for (const Bound& bound : verbs) {
    const CLI::App* parent = bound.app->get_parent();
    if (bound.app->parsed() && (parent == &top || parent->parsed())) chosen = &bound;
  }
  return chosen;
}

absl::Status NoVerb(const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    if (word.starts_with('-')) continue;
    if (word == "volume") return InvalidArgument("volume alone is no verb: volume create");
    return InvalidArgument(absl::StrCat("there is no verb ", Quoted(word)));
  }
  return InvalidArgument("no verb given");
}

}  // namespace

Parsed ParseCommandLine(const std::vector<std::string>& words) {
  Parsed parsed;
  std::vector<std::string> rest = words;
  parsed.invocation.command = SplitCommand(rest);
  CLI::App top;
  top.set_help_flag();
  top.require_subcommand(0, 1);
  std::vector<Bound> verbs;
  for (const Verb& verb : Verbs()) verbs.push_back(Bind(top, verb));
  CLI::Option* store =
      top.add_option("--store", CLI::callback_t([](const CLI::results_t&) { return true; }));
  CLI::Option* json = top.add_flag("--json")->disable_flag_override();
  CLI::Option* quiet = top.add_flag("-q,--quiet")->disable_flag_override();
  CLI::Option* force = top.add_flag("-f,--force")->disable_flag_override();
  CLI::Option* help = top.add_flag("-h,--help")->disable_flag_override();
  CLI::Option* version = top.add_flag("--version")->disable_flag_override();
  std::reverse(rest.begin(), rest.end());
  try {
    top.parse(std::move(rest));
  } catch (const CLI::Error& error) {
    parsed.usage = UsageOf(error);
  } catch (const std::exception& error) {
    parsed.usage = InvalidArgument(error.what());
  }
  Invocation& invocation = parsed.invocation;
  if (const Bound* bound = Chosen(top, verbs)) TakeValues(*bound, invocation);
  TakeFirstWordAsName(invocation);
  if (invocation.verb == nullptr) parsed.usage = NoVerb(words);
  if (store->count() > 0) invocation.values["--store"] = store->results();
  invocation.json = json->count() > 0;
  invocation.quiet = quiet->count() > 0;
  invocation.force = force->count() > 0;
  parsed.help = help->count() > 0;
  parsed.version = version->count() > 0;
  if (parsed.usage.ok()) parsed.usage = CheckInvocation(invocation);
  return parsed;
}

}  // namespace cowl
