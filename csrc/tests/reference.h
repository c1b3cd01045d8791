// What the kernels should give, in float64, and the ways in and out of their opaque storage.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "float_mode.h"
#include "kernels.h"
#include "kernels_in_use.h"
#include "memory.h"

using namespace bothways;

using Floats = std::vector<float>;
using Storage = Canaried<unsigned char>;  // operands, heads and weights: aligned to cache lines, as Buffer is

constexpr double kUnit = 0x1p-24;  // the largest relative error of one rounding to float32
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr int kSizes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 384, 768};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}

  uint32_t bits() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ >> 32;
  }
  // In [-1, 1), exact in float32.
  float next() { return (float)(bits() >> 8) * 0x1p-23f - 1; }
  Floats floats(size_t count) {
    Floats result(count);
    for (float& x : result) x = next();
    return result;
  }

 private:
  uint64_t state_;
};

// Calls test(kernels) for every table of every level that can run here, in the mode of a fresh thread and in the engine's
// own, and says which levels can't, so that a green run is never read as more.
template <class Test>
void for_tables(Test test) {
  for (const Level& level : levels()) {
    if (!level.unusable.empty()) {
      std::printf("level %s is NOT covered: %s\n", level.name, level.unusable.c_str());
      continue;
    }
    for (int i = 0; i < kDtypes; i++) {
      const Kernels& kernels = level.tables[i];
      std::printf("level %s, %s\n", level.name, kernels.dtype);
      const auto run = [&] {
        const KernelsInUse use(kernels);
        test(kernels);
      };
      run();
      const FloatMode mode;  // subnormal numbers are zero
      run();
    }
  }
}

inline bool is(const Kernels& kernels, const char* dtype) { return !std::strcmp(kernels.dtype, dtype); }

// The name of a table, for messages.
inline std::string name_of(const Kernels& kernels) { return std::string(kernels.level) + " " + kernels.dtype; }

// Tables of level amx hold operands, weights and heads in bfloat16, or in two parts of it for float32.
inline bool has_tiles(const Kernels& kernels) { return !std::strcmp(kernels.level, "amx"); }

// The relative error of a number in such a form. Products of two low parts are left out, which is as much again.
inline double part_error(const Kernels& kernels) {
  if (!has_tiles(kernels)) return 0;
  return is(kernels, "float32") ? 0x1.8p-17 : 0x1p-8;
}

// How far a table's stored numbers may be from those given. In int8 they are whole multiples of the largest / 127; a weight
// in bfloat16 has 8 bits.
inline double weight_error(const Kernels& kernels, double weight, double largest_of_column) {
  if (is(kernels, "int8")) return 0.5001 * largest_of_column / 127;
  return std::abs(weight) * (is(kernels, "bfloat16") ? 0x1p-8 : part_error(kernels));
}
inline double operand_error(const Kernels& kernels, double x, double largest_of_row) {
  return is(kernels, "int8") ? 0.5001 * largest_of_row / 127 : std::abs(x) * part_error(kernels);
}
// How far an activation of x may be off: a few roundings of a number as large as x; where tiles multiply, GELU is
// approximated as an operand's form allows.
inline double activation_error(const Kernels& kernels, Activation activation, double x) {
  const double rough = has_tiles(kernels) && activation == Activation::gelu ? is(kernels, "float32") ? 4e-7 : 4e-5 : 0;
  return activation == Activation::none ? 0 : 8 * kUnit * std::max(1.0, std::abs(x)) + rough;
}

inline double reference_activation(Activation activation, double x) {
  const double scale = std::sqrt(2 / std::acos(-1.0));
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(scale * (x + 0.044715 * x * x * x)));
    case Activation::gelu_fast:
      return 0.5 * x * (1 + std::tanh(x * 0.7978845608 * (1 + 0.044715 * x * x)));
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::isnan(x) ? x : std::max(x, 0.0);
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
  }
  return kNan;
}

constexpr Activation kActivations[] = {Activation::none,      Activation::gelu,       Activation::gelu_tanh,
                                       Activation::gelu_fast, Activation::quick_gelu, Activation::relu,
                                       Activation::silu,      Activation::tanh};

// An expected number and how far off a right result may be.
struct Expected {
  double value, tolerance;
};

inline bool same(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

// Checks got (rows, stride) against expected (rows, columns), and that the columns up to `whole` are zero.
inline void check_rows(const float* got, int stride, const std::vector<Expected>& expected, int rows, int columns,
                       int whole) {
  for (int row = 0; row < rows; row++)
    for (int column = 0; column < whole; column++) {
      const float value = got[(ptrdiff_t)row * stride + column];
      const Expected want = column < columns ? expected[(size_t)row * columns + column] : Expected{0, 0};
      const bool good = std::isnan(want.value) ? std::isnan(value) : std::abs(value - want.value) <= want.tolerance;
      CHECK(good, row, column, value, want.value, want.tolerance);
    }
}

// Rows with `stride` floats from one to the next, the rest NaN, and no more behind the last row than its columns.
inline Floats spread(const Floats& x, int rows, int columns, int stride) {
  Floats result((size_t)(rows - 1) * stride + columns, kNan);
  for (int row = 0; row < rows; row++)
    std::copy_n(x.begin() + (ptrdiff_t)row * columns, columns, result.begin() + (ptrdiff_t)row * stride);
  return result;
}

// x (rows, columns) as floats: groups of columns, zeros past the last.
inline Floats make_floats(const Floats& x, int rows, int columns) {
  Floats result((size_t)rows * whole_groups(columns));
  for (int row = 0; row < rows; row++)
    for (int c = 0; c < columns; c++)
      result[((size_t)c / kGroup * rows + row) * kGroup + c % kGroup] = x[(size_t)row * columns + c];
  return result;
}

// The rows of floats, whole groups of columns.
inline Floats read_floats(const Storage& storage, int rows, int columns) {
  const float* floats = (const float*)storage.data();
  const int whole = whole_groups(columns);
  Floats result((size_t)rows * whole);
  for (int row = 0; row < rows; row++)
    for (int c = 0; c < whole; c++)
      result[(size_t)row * whole + c] = floats[((size_t)c / kGroup * rows + row) * kGroup + c % kGroup];
  return result;
}

// x (rows, columns) as an operand.
inline Storage make_operand(const Kernels& kernels, const Floats& x, int rows, int columns) {
  const Guarded<float> from(make_floats(x, rows, columns));
  Storage operand(kernels.operand_bytes(rows, columns));
  kernels.convert({from.data(), rows, columns, operand.data()});
  CHECK(operand.intact());
  return operand;
}

inline Storage make_weight(const Kernels& kernels, const Floats& weight, int columns, int depth) {
  const Guarded<float> from(weight);
  Storage packed(kernels.weight_bytes(columns, depth));
  kernels.pack_weight(from.data(), columns, depth, packed.data());
  CHECK(packed.intact());
  return packed;
}

// A bias filled up with zeros to whole groups.
inline Guarded<float> make_bias(Floats bias) {
  bias.resize(whole_groups((int)bias.size()));
  return Guarded<float>(bias);
}

inline Floats identity(int size) {
  Floats result((size_t)size * size);
  for (int i = 0; i < size; i++) result[(size_t)i * size + i] = 1;
  return result;
}

// A product's scratch, and hidden rows with the room behind them that products may use.
inline Storage make_scratch(const Kernels& kernels, int depth) { return Storage(kernels.linear_scratch(depth)); }

// The whole groups of an operand's columns, read by the only reader there is: a product, here with the identity. It gives
// what is stored to a few roundings at most, but a NaN fills its row.
inline Floats read_operand(const Kernels& kernels, const Storage& operand, int rows, int columns) {
  const int whole = whole_groups(columns);
  const Storage weight = make_weight(kernels, identity(whole), whole, whole);
  Storage scratch = make_scratch(kernels, whole);
  Floats out((size_t)whole_row_groups(rows) * whole);
  kernels.linear({operand.data(), weight.data(), nullptr, rows, whole, whole, Activation::none, Into::hidden, out.data(), whole,
                  scratch.data()});
  out.resize((size_t)rows * whole);
  return out;
}
