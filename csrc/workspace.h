// What one thread needs to take tokens through the layers; grows to the largest chunk it has seen.
#pragma once

#include "buffer.h"

namespace bothways {

struct Workspace {
  Buffer hidden, operand, heads, inner, floats, scratch;
};

}  // namespace bothways
