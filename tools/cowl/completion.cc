// The bash completion: verbs, their options, and the names of images and devices as the store has
// them.
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "tools/cowl/help_text.h"
#include "tools/cowl/verbs.h"

namespace cowl {
namespace {

// What completes the positionals of a verb: "i" images, "d" devices, "f" files.
std::string PositionalKinds(const Verb& verb) {
  std::string kinds;
  for (const Value& value : verb.positionals) {
    switch (value.kind) {
      case ValueKind::kImage:
        kinds += "i ";
        break;
      case ValueKind::kDevice:
        kinds += "d ";
        break;
      case ValueKind::kName:
        kinds += "n ";
        break;
      case ValueKind::kPath:
        kinds += "f ";
        break;
      default:
        kinds += "- ";
        break;
    }
  }
  return kinds;
}

std::string OptionNames(const Verb& verb) {
  std::vector<std::string> names;
  for (const Option& option : verb.options) {
    if (!option.is_hidden && !option.is_unsupported) names.emplace_back(option.name);
  }
  if (verb.force != nullptr) names.emplace_back("--force");
  for (const char* global : {"--store", "--json", "--quiet", "--help"}) names.emplace_back(global);
  return absl::StrJoin(names, " ");
}

std::string OptionsWithValue(const Verb& verb) {
  std::vector<std::string> names = {"--store"};
  for (const Option& option : verb.options) {
    if (option.value.name != nullptr) names.emplace_back(option.name);
  }
  return absl::StrJoin(names, "|");
}

}  // namespace

std::string BashCompletion() {
  std::set<std::string> firsts;
  std::string cases;
  for (const Verb& verb : Verbs()) {
    if (verb.run == nullptr) continue;
    const std::string name = verb.name;
    firsts.insert(name.substr(0, name.find(' ')));
    absl::StrAppend(&cases, "    ", absl::StrReplaceAll(name, {{" ", "\\ "}}), ") options=\"",
                    OptionNames(verb), "\"; kinds=(", PositionalKinds(verb), "); valued=\"",
                    OptionsWithValue(verb), "\" ;;\n");
  }
  return absl::StrCat(R"bash(# bash completion for cowl, made by: cowl help --completion bash
_cowl() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= count=0 i word
  local options= valued="--store" store=() kinds=()
  # NAME:TAG is one word for us.
  if declare -F _get_comp_words_by_ref >/dev/null; then
    local words cword; _get_comp_words_by_ref -n : cur prev words cword
  else
    local words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
  fi
  for ((i = 1; i < cword; i++)); do
    word=${words[i]}
    if [[ $word == --store ]]; then store=(--store "${words[i+1]}"); ((i++)); continue; fi
    if [[ $word == -* ]]; then [[ $word =~ ^($valued)$ ]] && ((i++)); continue; fi
    if [[ -z $verb || $verb == volume ]]; then verb="${verb:+$verb }$word"; else ((count++)); continue; fi
    case $verb in
)bash",
                      cases, R"bash(    esac
  done
  local verbs=")bash",
                      absl::StrJoin(firsts, " "), R"bash("
  if [[ $prev == --store || $prev == --mount ]]; then
    COMPREPLY=($(compgen -d -- "$cur"))
  elif [[ $verb == volume ]]; then
    COMPREPLY=($(compgen -W create -- "$cur"))
  elif [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "${options:---store --json --quiet --force --help --version}" -- "$cur"))
  elif [[ -z $verb || ($verb == help && $count == 0) ]]; then
    COMPREPLY=($(compgen -W "$verbs" -- "$cur"))
  else
    case ${kinds[count]:--} in
      i) COMPREPLY=($(compgen -W "$(cowl "${store[@]}" images -q 2>/dev/null)" -- "$cur")) ;;
      d) COMPREPLY=($(compgen -W "$(cowl "${store[@]}" ls -q 2>/dev/null)" -- "$cur")) ;;
      n) COMPREPLY=($(compgen -W "$(cowl "${store[@]}" images -q 2>/dev/null; cowl "${store[@]}" ls -q 2>/dev/null)" -- "$cur")) ;;
      f) COMPREPLY=($(compgen -f -- "$cur")) ;;
    esac
  fi
  declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}
complete -F _cowl cowl
)bash");
}

}  // namespace cowl
