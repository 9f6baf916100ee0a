// invocation.h: one command as it was typed: which verb, which values; checked for everything the
// command line alone shows. Threads: value types. Ownership: verbs live in the table (verbs.h) for
// ever.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace cowl {

class Output;
struct Invocation;

// What a value must look like; checked before anything is done.
enum class ValueKind { kImage, kDevice, kName, kSize, kCount, kPath, kText, kChoice, kListen };

struct Value {
  const char* name;  // of a positional ("IMAGE"), or of an option's value ("N")
  ValueKind kind = ValueKind::kText;
  bool is_required = true;       // positionals only
  const char* choices = "";      // kChoice: "raw|qcow2"
  const char* unsupported = "";  // kChoice: those of the choices that this version refuses
};

struct Option {
  const char* name;  // "--size"
  Value value;       // value.name null: a flag
  const char* help;
  bool repeats = false;
  bool is_hidden = false;       // works, but is not for people
  bool is_unsupported = false;  // belongs to the contract, not to this version
};

struct Example {
  const char* command;
  const char* what;
};

struct Verb {
  const char* name;  // "create", "volume create"
  const char* summary;
  std::vector<Value> positionals;
  std::vector<Option> options;
  const char* force;        // what --force does here; null: it is not taken
  const char* description;  // paragraphs, without a newline at the end
  std::vector<Example> examples;
  absl::Status (*run)(const Invocation& invocation, Output& output);  // null: not in this version
  absl::Status (*check)(const Invocation& invocation) =
      nullptr;                 // what goes together and what does not
  bool takes_command = false;  // "-- COMMAND..." follows
};

struct Invocation {
  const Verb* verb = nullptr;
  std::string store;  // absolute, empty for verbs of no store
  bool json = false;
  bool quiet = false;
  bool force = false;
  std::map<std::string, std::vector<std::string>>
      values;  // by positional or option name; flags have one empty value
  std::vector<std::string> command;

  bool Has(const std::string& key) const { return values.contains(key); }
  // Empty where it was not given.
  std::string Text(const std::string& key) const;
  // 0 where it was not given; the check has seen to it that it is a size or a count.
  uint64_t SizeBytes(const std::string& key) const;
  int Count(const std::string& key, int otherwise) const;
};

}  // namespace cowl
