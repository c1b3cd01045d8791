// Which level computes: the best that this machine can run, or the one that the caller names.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace bothways {

struct Level {
  const Kernels* kernels;
  std::string unusable;  // why it can't run here; empty if it can
};

// Every level of this build, best first.
std::vector<Level> levels();

// The kernels of a level by name; "" means the best usable. Throws std::invalid_argument for a name that is unknown or
// can't run here: a level is never silently replaced by another.
const Kernels& level(const std::string& name);

}  // namespace bothways
