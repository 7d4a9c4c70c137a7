// How many processor cores this process may use.
#pragma once
#include <string>

namespace llamero {

// Cores in the process's affinity, one thread a core, and no more than its control group grants.
int usable_cores();

// Processors that the control groups of this process, and those these lie in, grant; infinite where none sets a limit.
// `root` stands before /proc and /sys, for tests.
double granted_processors(const std::string& root);

}  // namespace llamero
