// What one thread needs to take tokens through the layers; grows to the largest chunk it has seen.
#pragma once

#include "buffer.h"

namespace bothways {

struct Workspace {
  Buffer activations;  // all that the members of a team read and write together: one piece, so that it has huge pages
  Buffer scratch;
};

}  // namespace bothways
