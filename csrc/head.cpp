#include "head.h"

#include <algorithm>
#include <cstring>

#include "float_mode.h"

namespace bothways {
namespace {

constexpr int kBlockRows = 128;

}  // namespace

Head::Head(const float* weight, const float* bias, int columns, int depth, const Kernels& kernels)
    : kernels_(kernels), matrix_(pack_matrix(weight, bias, columns, depth, kernels)) {}

void Head::apply(const float* x, int rows, float* out) const {
  const FloatMode mode;
  const int columns = matrix_.columns, depth = matrix_.depth, stride = whole_groups(columns);
  Buffer operand(kernels_.operand_bytes(kBlockRows, depth)), sums(sizeof(float) * kBlockRows * stride);
  for (int begin = 0; begin < rows; begin += kBlockRows) {
    const int block = std::min(kBlockRows, rows - begin);
    kernels_.store_operand(x + (ptrdiff_t)begin * depth, depth, block, depth, operand.data());
    std::memset(sums.data(), 0, sums.bytes());
    kernels_.linear({.x = operand.data(),
                     .weight = matrix_.packed.data(),
                     .bias = matrix_.bias.floats(),
                     .rows = block,
                     .columns = columns,
                     .depth = depth,
                     .activation = Activation::none,
                     .into = Into::hidden,
                     .out = sums.data(),
                     .stride = stride});
    for (int row = 0; row < block; row++)
      std::memcpy(out + (ptrdiff_t)(begin + row) * columns, sums.floats() + (ptrdiff_t)row * stride,
                  columns * sizeof(float));
  }
}

}  // namespace bothways
