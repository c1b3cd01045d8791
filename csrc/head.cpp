#include "head.h"

#include <algorithm>
#include <cstring>

#include "float_mode.h"
#include "row_block.h"

namespace bothways {
namespace {

constexpr int kBlockRows = 128;

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
  const FloatMode mode;
  const int columns = matrix_.columns, depth = matrix_.depth;
  Buffer floats(floats_bytes(kBlockRows, depth)), operand(kernels_.operand_bytes(kBlockRows, depth));
  Buffer results(kernels_.operand_bytes(kBlockRows, columns)), scratch(kernels_.linear_scratch(depth));
  for (int begin = 0; begin < rows; begin += kBlockRows) {
    const int block = std::min(kBlockRows, rows - begin);
    to_floats(x + (ptrdiff_t)begin * depth, nullptr, block, depth, floats.floats());
    kernels_.convert({.floats = floats.floats(), .rows = block, .columns = depth, .operand = operand.data()});
    kernels_.linear({.x = operand.data(),
                     .weight = matrix_.packed,
                     .bias = matrix_.bias.floats(),
                     .rows = block,
                     .columns = columns,
                     .depth = depth,
                     .activation = activation_,
                     .into = Into::inner,
                     .out = results.data(),
                     .stride = 0,
                     .scratch = scratch.data()});
    from_floats(results.floats(), block, columns, out + (ptrdiff_t)begin * columns);
  }
}

}  // namespace bothways
