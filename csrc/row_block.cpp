#include "row_block.h"

#include <algorithm>
#include <cstring>

namespace bothways {

// Row by row, as they may come from far.
void to_floats(const float* x, const float* scales, int rows, int columns, float* out) {
  const int whole = columns / kGroup * kGroup, stride = rows * kGroup;
  for (int row = 0; row < rows; row++, x += columns, out += kGroup) {
    const float scale = scales ? scales[row] : 1;
    float* group = out;
    for (int column = 0; column < whole; column += kGroup, group += stride)
      for (int i = 0; i < kGroup; i++) group[i] = x[column + i] * scale;
    if (whole == columns) continue;
    for (int i = 0; i < kGroup; i++) group[i] = whole + i < columns ? x[whole + i] * scale : 0;
  }
}

RowBlock::RowBlock(int columns, int depth, const Kernels& kernels)
    : stride(whole_groups(columns)),
      kernels_(kernels),
      floats_(floats_bytes(kRows, depth)),
      operand_(kernels.operand_bytes(kRows, depth)),
      sums_(sizeof(float) * kRows * stride),
      scratch_(kernels.linear_scratch(depth)) {}

const float* RowBlock::multiply(const float* x, const float* scales, int rows, const Matrix& matrix) {
  to_floats(x, scales, rows, matrix.depth, floats_.floats());
  kernels_.convert({.floats = floats_.floats(), .rows = rows, .columns = matrix.depth, .operand = operand_.data()});
  std::memset(sums_.data(), 0, sizeof(float) * rows * stride);
  kernels_.linear({.x = operand_.data(),
                   .weight = matrix.packed,
                   .bias = matrix.bias.floats(),
                   .rows = rows,
                   .columns = matrix.columns,
                   .depth = matrix.depth,
                   .activation = Activation::none,
                   .into = Into::hidden,
                   .out = sums_.data(),
                   .stride = stride,
                   .scratch = scratch_.data()});
  return sums_.floats();
}

}  // namespace bothways
