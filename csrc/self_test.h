// A numeric check of one level against float64, small enough to run in `bothways doctor`.
#pragma once

#include "kernels.h"

namespace bothways {

// The largest error of a level's product with GELU, attention and norm, on fixed pseudo-random numbers of size 1.
double self_test(const Kernels&);

}  // namespace bothways
