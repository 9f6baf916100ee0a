// owner.h: names a process so that another, later, can tell whether it still lives: process id,
// its start, the boot. Threads: any. Errors: none; what cannot be told is taken for alive.
#pragma once

#include <string>

namespace cowl {

// 0: this process.
std::string OwnerOf(int pid);
bool OwnerLives(const std::string& owner);

}  // namespace cowl
