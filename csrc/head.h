// A linear layer behind the encoder (a classifier, a pooler), each row computed on its own.
#pragma once

#include "kernels.h"
#include "weights.h"

namespace bothways {

class Head {
 public:
  // weight (columns, depth); bias (columns), or null.
  Head(const float* weight, const float* bias, int columns, int depth, const Kernels&);

  // x (rows, depth) -> out (rows, columns).
  void apply(const float* x, int rows, float* out) const;

  int columns() const { return matrix_.columns; }
  int depth() const { return matrix_.depth; }

 private:
  const Kernels& kernels_;
  const Matrix matrix_;
};

}  // namespace bothways
