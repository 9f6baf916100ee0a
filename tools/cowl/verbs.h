// verbs.h: the table of verbs: what can be typed, what it means, what runs it. The parser, the
// help, the man pages and the completion all come from here.
#pragma once

#include <string>
#include <vector>

#include "tools/cowl/invocation.h"

namespace cowl {

const std::vector<Verb>& Verbs();
const Verb* FindVerb(const std::string& name);  // null: there is none

// Options that every verb takes.
const std::vector<Option>& GlobalOptions();

// What runs the verbs: one function each, in the file that bears its name or its group's.
absl::Status RunInit(const Invocation& invocation, Output& output);
absl::Status RunImport(const Invocation& invocation, Output& output);
absl::Status RunExport(const Invocation& invocation, Output& output);
absl::Status RunImages(const Invocation& invocation, Output& output);
absl::Status RunLs(const Invocation& invocation, Output& output);
absl::Status RunHistory(const Invocation& invocation, Output& output);
absl::Status RunInspect(const Invocation& invocation, Output& output);
absl::Status RunTree(const Invocation& invocation, Output& output);
absl::Status RunDf(const Invocation& invocation, Output& output);
absl::Status RunCreate(const Invocation& invocation, Output& output);
absl::Status RunClone(const Invocation& invocation, Output& output);
absl::Status RunVolumeCreate(const Invocation& invocation, Output& output);
absl::Status RunReset(const Invocation& invocation, Output& output);
absl::Status RunResize(const Invocation& invocation, Output& output);
absl::Status RunRm(const Invocation& invocation, Output& output);
absl::Status RunSnapshot(const Invocation& invocation, Output& output);
absl::Status RunCommit(const Invocation& invocation, Output& output);
absl::Status RunFlatten(const Invocation& invocation, Output& output);
absl::Status RunRename(const Invocation& invocation, Output& output);
absl::Status RunTag(const Invocation& invocation, Output& output);
absl::Status RunRmi(const Invocation& invocation, Output& output);
absl::Status RunDiff(const Invocation& invocation, Output& output);
absl::Status RunDiffFiles(const Invocation& invocation, Output& output);
absl::Status RunMap(const Invocation& invocation, Output& output);
absl::Status RunCheck(const Invocation& invocation, Output& output);
absl::Status RunGc(const Invocation& invocation, Output& output);
absl::Status RunServe(const Invocation& invocation, Output& output);
absl::Status RunStop(const Invocation& invocation, Output& output);
absl::Status RunAttach(const Invocation& invocation, Output& output);
absl::Status RunDetach(const Invocation& invocation, Output& output);
absl::Status RunRun(const Invocation& invocation, Output& output);
absl::Status RunDump(const Invocation& invocation, Output& output);
absl::Status RunDoctor(const Invocation& invocation, Output& output);
absl::Status RunHelp(const Invocation& invocation, Output& output);
absl::Status RunVersion(const Invocation& invocation, Output& output);

// Checks of what goes together.
absl::Status CheckCreate(const Invocation& invocation);
absl::Status CheckVolumeCreate(const Invocation& invocation);
absl::Status CheckExport(const Invocation& invocation);
absl::Status CheckImport(const Invocation& invocation);
absl::Status CheckServe(const Invocation& invocation);
absl::Status CheckHelp(const Invocation& invocation);

}  // namespace cowl
