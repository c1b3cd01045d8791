#include "self_test.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "buffer.h"
#include "float_mode.h"
#include "kernels_in_use.h"
#include "weights.h"

namespace bothways {
namespace {

using Numbers = std::vector<double>;

// Numbers in [-1, 1), the same everywhere, exactly representable as float32.
class Random {
 public:
  double next() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return (double)(int32_t)(state_ >> 32) / 0x1p31 - std::fmod((double)(int32_t)(state_ >> 32), 256.0) / 0x1p31;
  }
  Numbers numbers(size_t count) {
    Numbers result(count);
    for (double& x : result) x = next();
    return result;
  }

 private:
  uint64_t state_ = 20181011;
};

Buffer floats(const Numbers& numbers, int room) {
  Buffer result(sizeof(float) * std::max<size_t>(numbers.size(), room));
  for (size_t i = 0; i < numbers.size(); i++) result.floats()[i] = (float)numbers[i];
  return result;
}

double largest_difference(const float* got, int stride, const Numbers& expected, int columns) {
  double largest = 0;
  for (size_t i = 0; i < expected.size(); i++) {
    const double difference = std::abs(got[i / columns * stride + i % columns] - expected[i]);
    if (!(difference <= largest)) largest = difference;  // also takes a NaN
  }
  return largest;
}

// (rows, depth) x (columns, depth) + bias
Numbers product(const Numbers& x, const Numbers& weight, const Numbers& bias, int depth) {
  Numbers result;
  const size_t columns = bias.size();
  for (size_t row = 0; row < x.size() / depth; row++)
    for (size_t column = 0; column < columns; column++) {
      double sum = bias[column];
      for (int k = 0; k < depth; k++) sum += x[row * depth + k] * weight[column * depth + k];
      result.push_back(sum);
    }
  return result;
}

double gelu(double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }

struct Problem {
  static constexpr int rows = 19, hidden = 96, heads = 3, size = 32;
  Random random;
  Numbers x = random.numbers(rows * hidden);
};

// A table's products on whole matrices, with the rooms that they need.
class Products {
 public:
  explicit Products(const Kernels& kernels) : kernels_(kernels) {}

  Buffer operand(const float* floats, int rows, int columns) const {
    Buffer result(kernels_.operand_bytes(rows, columns));
    kernels_.convert({floats, rows, columns, result.data()});
    return result;
  }

  // x (rows, columns) as floats.
  Buffer floats(const Numbers& x, int rows, int columns) const {
    Buffer result(floats_bytes(rows, columns));
    for (size_t i = 0; i < x.size(); i++) {
      const int row = (int)i / columns, column = (int)i % columns;
      result.floats()[(column / kGroup * rows + row) * kGroup + column % kGroup] = (float)x[i];
    }
    return result;
  }

  void linear(const Buffer& x, const Matrix& matrix, int rows, Activation activation, Into into, Buffer& out) const {
    const Buffer scratch(kernels_.linear_scratch(matrix.depth));
    kernels_.linear({x.data(), matrix.packed, matrix.bias.floats(), rows, matrix.columns, matrix.depth, activation, into,
                     out.data(), matrix.columns, scratch.data()});
  }

  // The rows of an operand: only products read one, so this is one with the identity.
  Buffer rows_of(const Buffer& operand, int rows, int columns) const {
    Numbers identity(columns * columns);
    for (int i = 0; i < columns; i++) identity[i * columns + i] = 1;
    const Matrix copy = pack_matrix(::bothways::floats(identity, 0).floats(), nullptr, columns, columns, kernels_);
    Buffer result(sizeof(float) * whole_row_groups(rows) * columns);
    linear(operand, copy, rows, Activation::none, Into::hidden, result);
    return result;
  }

 private:
  const Kernels& kernels_;
};

// gelu(x * weight^T + bias)
double product_error(const Kernels& kernels, Problem& p) {
  const Products products(kernels);
  const Numbers weight = p.random.numbers(p.hidden * p.hidden), bias = p.random.numbers(p.hidden);
  const Matrix matrix = pack_matrix(floats(weight, 0).floats(), floats(bias, 0).floats(), p.hidden, p.hidden, kernels);
  const Buffer x = products.operand(products.floats(p.x, p.rows, p.hidden).floats(), p.rows, p.hidden);
  Buffer y(kernels.converts_inner ? floats_bytes(p.rows, p.hidden) : kernels.operand_bytes(p.rows, p.hidden));
  products.linear(x, matrix, p.rows, Activation::gelu, Into::inner, y);
  if (kernels.converts_inner) y = products.operand(y.floats(), p.rows, p.hidden);
  Numbers expected = product(p.x, weight, bias, p.hidden);
  for (double& value : expected) value = gelu(value);
  return largest_difference(products.rows_of(y, p.rows, p.hidden).floats(), p.hidden, expected, p.hidden);
}

double norm_error(const Kernels& kernels, Problem& p) {
  const Numbers weight = p.random.numbers(p.hidden), bias = p.random.numbers(p.hidden);
  const Buffer weight_floats = floats(weight, 0), bias_floats = floats(bias, 0);
  Buffer hidden = floats(p.x, whole_row_groups(p.rows) * p.hidden), operand(kernels.operand_bytes(p.rows, p.hidden));
  kernels.norm({hidden.floats(), p.hidden, p.rows, p.hidden, weight_floats.floats(), bias_floats.floats(), 1e-5f,
                operand.data()});
  Numbers expected;
  for (int row = 0; row < p.rows; row++) {
    const double* x = &p.x[row * p.hidden];
    double mean = 0, variance = 0;
    for (int c = 0; c < p.hidden; c++) mean += x[c] / p.hidden;
    for (int c = 0; c < p.hidden; c++) variance += (x[c] - mean) * (x[c] - mean) / p.hidden;
    for (int c = 0; c < p.hidden; c++) expected.push_back((x[c] - mean) / std::sqrt(variance + 1e-5) * weight[c] + bias[c]);
  }
  return largest_difference(hidden.floats(), p.hidden, expected, p.hidden);
}

Numbers attention_expected(const Numbers& heads, int rows, int count, int size) {
  const int width = count * size;
  Numbers result(rows * width);
  const auto at = [&](int row, int part, int column) { return heads[row * 3 * width + part * width + column]; };
  for (int head = 0; head < count; head++)
    for (int row = 0; row < rows; row++) {
      Numbers shares(rows);
      double sum = 0;
      for (int key = 0; key < rows; key++) {
        double score = 0;
        for (int c = head * size; c < (head + 1) * size; c++) score += at(row, 0, c) * at(key, 1, c);
        sum += shares[key] = std::exp(score);
      }
      for (int key = 0; key < rows; key++)
        for (int c = head * size; c < (head + 1) * size; c++) result[row * width + c] += shares[key] / sum * at(key, 2, c);
    }
  return result;
}

double attention_error(const Kernels& kernels, Problem& p) {
  const Products products(kernels);
  const int width = 3 * p.hidden;
  Numbers weight = p.random.numbers(width * p.hidden);
  for (double& value : weight) value /= 8;  // scores of a trained network's size: e^x multiplies their errors
  const Numbers bias = p.random.numbers(width);
  Buffer packed_weight = floats(weight, 0), packed_bias = floats(bias, 0);
  for (int i = 0; i < p.hidden * p.hidden; i++) packed_weight.floats()[i] *= kernels.score_unit;  // the queries'
  for (int i = 0; i < p.hidden; i++) packed_bias.floats()[i] *= kernels.score_unit;
  const Matrix matrix = pack_matrix(packed_weight.floats(), packed_bias.floats(), width, p.hidden, kernels);
  const Buffer x = products.operand(products.floats(p.x, p.rows, p.hidden).floats(), p.rows, p.hidden);
  Buffer heads(kernels.heads_bytes(p.rows, p.heads, p.size)), out(kernels.operand_bytes(p.rows, p.hidden));
  Buffer context(floats_bytes(p.rows, p.hidden)), scratch(sizeof(float) * kernels.attention_scratch(p.rows, p.size));
  products.linear(x, matrix, p.rows, Activation::none, Into::heads, heads);
  kernels.attention({heads.data(), p.rows, 0, p.rows, p.heads, p.size, kernels.converts_context ? context.data() : out.data(),
                     scratch.floats(), nullptr});
  if (kernels.converts_context) out = products.operand(context.floats(), p.rows, p.hidden);
  const Numbers expected = attention_expected(product(p.x, weight, bias, p.hidden), p.rows, p.heads, p.size);
  return largest_difference(products.rows_of(out, p.rows, p.hidden).floats(), p.hidden, expected, p.hidden);
}

}  // namespace

double self_test(const Kernels& kernels) {
  const FloatMode mode;
  const KernelsInUse use(kernels);
  Problem problem;
  double largest = 0;
  for (const auto error : {product_error, norm_error, attention_error}) {
    const double value = error(kernels, problem);
    if (!(value <= largest)) largest = value;
  }
  return largest;
}

}  // namespace bothways
