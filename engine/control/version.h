// version.h: the version of this program, as --version shows it and as the control protocol
// exchanges it.
#pragma once

#include <string>

namespace cowl {

std::string ProgramVersion();

}  // namespace cowl
