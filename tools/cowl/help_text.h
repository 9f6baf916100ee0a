// help_text.h: the table of verbs as help, manual pages and a bash completion. Pure.
#pragma once

#include <string>

#include "tools/cowl/invocation.h"

namespace cowl {

std::string HelpOverview();
std::string HelpOf(const Verb& verb);
std::string ManOverview();            // cowl(1)
std::string ManOf(const Verb& verb);  // cowl-VERB(1)
std::string BashCompletion();

// "cowl create [IMAGE] [NAME] [options]"
std::string Synopsis(const Verb& verb);
// "cowl-volume-create"
std::string ManName(const Verb& verb);

}  // namespace cowl
