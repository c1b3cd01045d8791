// A linear layer behind the encoder (a classifier, a pooler) and its activation, each row computed on its own.
#pragma once

#include "kernels.h"
#include "weights.h"

namespace bothways {

class Head {
 public:
  // weight (columns, depth); bias (columns), or null; a float32 table whose operands are floats (see `plain_kernels`).
  Head(const float* weight, const float* bias, int columns, int depth, Activation, const Kernels&);

  // x (rows, depth) -> out (rows, columns).
  void apply(const float* x, int rows, float* out) const;

  int columns() const { return matrix_.columns; }
  int depth() const { return matrix_.depth; }

 private:
  const Kernels& kernels_;
  const Activation activation_;
  const Matrix matrix_;
};

}  // namespace bothways
