#include "head.h"

#include <algorithm>
#include <cstring>

#include "float_mode.h"
#include "row_block.h"

namespace bothways {

Head::Head(const float* weight, const float* bias, int columns, int depth, const Kernels& kernels)
    : kernels_(kernels), matrix_(pack_matrix(weight, bias, columns, depth, kernels)) {}

void Head::apply(const float* x, int rows, float* out) const {
  const FloatMode mode;
  const ptrdiff_t columns = matrix_.columns, depth = matrix_.depth;
  RowBlock block(matrix_.columns, matrix_.depth, kernels_);
  for (int begin = 0; begin < rows; begin += RowBlock::kRows) {
    const int count = std::min(RowBlock::kRows, rows - begin);
    const float* sums = block.multiply(x + begin * depth, nullptr, count, matrix_);
    for (int row = 0; row < count; row++)
      std::memcpy(out + (begin + row) * columns, sums + (ptrdiff_t)row * block.stride, columns * sizeof(float));
  }
}

}  // namespace bothways
