// Products of a few plain rows with a packed matrix; the room for them is used again for the next rows.
#pragma once

#include "kernels.h"
#include "weights.h"

namespace bothways {

class RowBlock {
 public:
  static constexpr int kRows = 128;

  // For blocks of up to `rows` rows, at most kRows, and matrices of up to `columns` columns and exactly `depth`.
  RowBlock(int rows, int columns, int depth, const Kernels&);

  // x (rows, depth), each row multiplied by its scale if there are scales. Returns x * matrix^T + bias in rows that lie
  // `stride` apart, good until the next call.
  const float* multiply(const float* x, const float* scales, int rows, const Matrix&);

  // Returns activation(x * matrix^T + bias) in groups of columns (kernels.h), good until the next call.
  const float* activate(const float* x, int rows, const Matrix&, Activation);

  const int stride;

 private:
  void take(const float* x, const float* scales, int rows, int depth);
  Linear product(const Matrix&, int rows, Into, void* out);

  const Kernels& kernels_;
  Buffer floats_, operand_, results_, scratch_;
};

}  // namespace bothways
