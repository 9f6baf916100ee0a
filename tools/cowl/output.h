// output.h: what a verb prints: results on stdout, in one piece at the end, everything else on
// stderr. With --json a result is one document; a verb that fails has then printed nothing.
// Threads: one. Errors: a standard output that is closed or full is an error of the verb.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "control/json.h"
#include "tools/cowl/invocation.h"

namespace cowl {

class Output {
 public:
  explicit Output(const Invocation& invocation) : invocation_(invocation) {}

  bool json() const { return invocation_.json; }
  bool quiet() const { return invocation_.quiet; }

  void Print(std::string_view text) { text_ += text; }
  void PrintLine(std::string_view text) { text_.append(text).append("\n"); }
  // The document, with "schema" in front.
  void PrintDocument(const Json& document);
  // What was printed goes out now.
  absl::Status Flush();

  // A line on stderr that is no failure; not with --quiet.
  void Note(std::string_view text) const;
  // A line on stderr that should be seen in any case.
  void Warn(std::string_view text) const;

  int exit_status = 0;  // of a verb that succeeded

 private:
  const Invocation& invocation_;
  std::string text_;
};

// The rows of a table, aligned; columns of sizes and counts to the right.
class Table {
 public:
  enum Align { kLeft, kRight };
  struct Column {
    const char* title;
    Align align = kLeft;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string Text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "cowl: VERB: MESSAGE" on one line of stderr; `verb` may be empty.
void PrintError(std::string_view verb, std::string_view message);

// Makes sure that descriptors 0, 1 and 2 are taken, so that no file of a store can become one of
// them. A stdout that was closed stays one that cannot be written.
void SecureStandardStreams();

}  // namespace cowl
