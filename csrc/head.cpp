#include "head.h"

#include <algorithm>
#include <cstring>

#include "float_mode.h"
#include "row_block.h"

namespace bothways {
namespace {

// Groups of columns to plain rows.
void from_floats(const float* floats, int rows, int columns, float* out) {
  for (int column = 0; column < columns; column += kGroup) {
    const int count = std::min(kGroup, columns - column);
    for (int row = 0; row < rows; row++, floats += kGroup)
      std::memcpy(out + (ptrdiff_t)row * columns + column, floats, count * sizeof(float));
  }
}

}  // namespace

Head::Head(const float* weight, const float* bias, int columns, int depth, Activation activation, const Kernels& kernels)
    : kernels_(kernels), activation_(activation), matrix_(pack_matrix(weight, bias, columns, depth, kernels)) {}

void Head::apply(const float* x, int rows, float* out) const {
  if (rows == 0) return;
  const FloatMode mode;
  const int columns = matrix_.columns, depth = matrix_.depth;
  RowBlock block(std::min(rows, RowBlock::kRows), columns, depth, kernels_);
  for (int begin = 0; begin < rows; begin += RowBlock::kRows) {
    const int count = std::min(rows - begin, RowBlock::kRows);
    const float* results = block.activate(x + (ptrdiff_t)begin * depth, count, matrix_, activation_);
    from_floats(results, count, columns, out + (ptrdiff_t)begin * columns);
  }
}

}  // namespace bothways
