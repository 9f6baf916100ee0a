#include "control/version.h"

namespace cowl {

std::string ProgramVersion() { return COWL_VERSION; }

}  // namespace cowl
