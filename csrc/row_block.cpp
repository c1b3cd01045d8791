#include "row_block.h"

#include <algorithm>
#include <cstring>

namespace bothways {
namespace {

// Plain rows to groups of columns, with zeros past the columns. Row by row, as they may come from far.
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

}  // namespace

RowBlock::RowBlock(int rows, int columns, int depth, const Kernels& kernels)
    : stride(whole_groups(columns)),
      kernels_(kernels),
      floats_(Buffer::uncleared(floats_bytes(rows, depth))),
      operand_(Buffer::uncleared(kernels.operand_bytes(rows, depth))),
      results_(Buffer::uncleared(std::max(floats_bytes(rows, columns), kernels.operand_bytes(rows, columns)))),
      scratch_(kernels.linear_scratch(depth)) {}

void RowBlock::take(const float* x, const float* scales, int rows, int depth) {
  to_floats(x, scales, rows, depth, floats_.floats());
  kernels_.convert({.floats = floats_.floats(), .rows = rows, .columns = depth, .operand = operand_.data()});
}

Linear RowBlock::product(const Matrix& matrix, int rows, Into into, void* out) {
  return {.x = operand_.data(),
          .weight = matrix.packed,
          .bias = matrix.bias.floats(),
          .rows = rows,
          .columns = matrix.columns,
          .depth = matrix.depth,
          .activation = Activation::none,
          .into = into,
          .out = out,
          .stride = stride,
          .scratch = scratch_.data()};
}

const float* RowBlock::multiply(const float* x, const float* scales, int rows, const Matrix& matrix) {
  take(x, scales, rows, matrix.depth);
  std::memset(results_.data(), 0, sizeof(float) * rows * stride);
  kernels_.linear(product(matrix, rows, Into::hidden, results_.data()));
  return results_.floats();
}

const float* RowBlock::activate(const float* x, int rows, const Matrix& matrix, Activation activation) {
  take(x, nullptr, rows, matrix.depth);
  Linear linear = product(matrix, rows, Into::inner, results_.data());
  linear.activation = activation;
  kernels_.linear(linear);
  return results_.floats();
}

}  // namespace bothways
