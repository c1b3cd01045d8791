// Products of a few plain rows with a packed matrix; the room for them is used again for the next rows.
#pragma once

#include "kernels.h"
#include "weights.h"

namespace bothways {

// Plain rows, each multiplied by its scale if there are scales, to groups of columns, with zeros past the columns.
void to_floats(const float* x, const float* scales, int rows, int columns, float* out);

class RowBlock {
 public:
  static constexpr int kRows = 128;

  // For matrices of up to `columns` columns and exactly `depth`.
  RowBlock(int columns, int depth, const Kernels&);

  // x (rows, depth), at most kRows of them, each multiplied by its scale if there are scales. Returns x * matrix^T + bias in
  // rows that lie `stride` apart, good until the next call.
  const float* multiply(const float* x, const float* scales, int rows, const Matrix&);

  const int stride;

 private:
  const Kernels& kernels_;
  Buffer floats_, operand_, sums_, scratch_;
};

}  // namespace bothways
