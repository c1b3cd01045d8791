// Everything but products and attention at every usable level: conversion, embedding, norms, their means, operands.
#include <numeric>

#include "reference.h"

namespace {

const char* name_of_dtype(Dtype dtype) { return dtype == Dtype::f32 ? "f32" : dtype == Dtype::f16 ? "f16" : "bf16"; }

double half_value(uint16_t bits) {
  const int sign = bits & 0x8000 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  if (exponent == 31) return fraction ? (double)kNan : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(fraction + 1024, exponent - 25);
}

float reference_float(Dtype dtype, uint16_t bits) {
  if (dtype == Dtype::f16) return (float)half_value(bits);
  const uint32_t wide = (uint32_t)bits << 16;
  float result;
  std::memcpy(&result, &wide, sizeof result);
  return result;
}

// The same number to the last bit; any NaN is as good as another.
bool same_number(float a, float b) { return std::isnan(b) ? std::isnan(a) : same(a, b); }

void test_every_pattern(const Kernels& kernels, Dtype dtype) {
  check::at("%s to_float %s, every pattern", name_of(kernels).c_str(), name_of_dtype(dtype));
  std::vector<uint16_t> bits(65536);
  std::iota(bits.begin(), bits.end(), 0);
  const Guarded<uint16_t> from(bits);
  Canaried<float> out(bits.size(), sizeof(float));
  kernels.to_float(from.data(), dtype, bits.size(), out.data());
  CHECK(out.intact());
  for (size_t i = 0; i < bits.size(); i++) {
    const float want = reference_float(dtype, bits[i]);
    CHECK(same_number(out.data()[i], want), i, out.data()[i], want);
  }
}

// Every count up to a few vectors, with the corners of the dtype in every place.
void test_counts(const Kernels& kernels, Dtype dtype) {
  constexpr uint16_t kCorners[] = {0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0x7c00,
                                   0xfc00, 0x7c01, 0x7f80, 0xff81, 0x3c00, 0xbf80};
  for (int count = 0; count < 50; count++) {
    check::at("%s to_float %s, count %d", name_of(kernels).c_str(), name_of_dtype(dtype), count);
    std::vector<uint16_t> bits(count);
    for (int i = 0; i < count; i++) bits[i] = kCorners[(i + count) % std::size(kCorners)];
    const Guarded<uint16_t> from(bits);
    Canaried<float> out(count, sizeof(float));
    kernels.to_float(from.data(), dtype, count, out.data());
    CHECK(out.intact());
    for (int i = 0; i < count; i++) {
      const float want = reference_float(dtype, bits[i]);
      CHECK(same_number(out.data()[i], want), i, bits[i], out.data()[i], want);
    }
  }
}

void test_float32_is_copied(const Kernels& kernels) {
  for (int count = 0; count < 50; count++) {
    check::at("%s to_float f32, count %d", name_of(kernels).c_str(), count);
    const Floats x = Random(count).floats(count);
    const Guarded<float> from(x);
    Canaried<float> out(count, sizeof(float));
    kernels.to_float(from.data(), Dtype::f32, count, out.data());
    CHECK(out.intact());
    CHECK(out.values() == x);
  }
}

// A table of a checkpoint, in its own dtype and as the numbers that it stands for.
class TestTable {
 public:
  TestTable(Random& random, Dtype dtype, int rows, int columns)
      : dtype_(dtype),
        stored_(dtype == Dtype::f32 ? std::vector<uint16_t>() : patterns(random, dtype, (size_t)rows * columns)),
        values_(dtype == Dtype::f32 ? random.floats((size_t)rows * columns) : floats(dtype, stored_.values())) {}

  double value(size_t at) const { return values_.data()[at]; }
  Table table() const { return {dtype_ == Dtype::f32 ? (const void*)values_.data() : stored_.data(), dtype_}; }

 private:
  // Signs and fractions at random, sizes below 2: exponents from subnormal on in float16, near 1 in bfloat16.
  static std::vector<uint16_t> patterns(Random& random, Dtype dtype, size_t count) {
    std::vector<uint16_t> result(count);
    for (uint16_t& bits : result)
      bits = dtype == Dtype::f16 ? random.bits() & 0xbfff : (random.bits() & 0x83ff) | 0x3c00;
    return result;
  }
  static Floats floats(Dtype dtype, const std::vector<uint16_t>& patterns) {
    Floats result;
    for (uint16_t bits : patterns) result.push_back(reference_float(dtype, bits));
    return result;
  }

  const Dtype dtype_;
  const Guarded<uint16_t> stored_;
  const Guarded<float> values_;
};

struct EmbedCase {
  Dtype word, position, token_type;
  bool has_token_types;
  int rows, columns, gap;
};

void test_embed(const Kernels& kernels, const EmbedCase& c) {
  check::at("%s embed %s %s %s token types %d, rows %d columns %d", name_of(kernels).c_str(), name_of_dtype(c.word),
            name_of_dtype(c.position), name_of_dtype(c.token_type), c.has_token_types, c.rows, c.columns);
  constexpr int kWords = 11, kPositions = 7, kTypes = 2;
  Random random(c.columns * 31 + c.rows);
  const TestTable word(random, c.word, kWords, c.columns), position(random, c.position, kPositions, c.columns);
  const TestTable type(random, c.token_type, kTypes, c.columns);
  std::vector<int32_t> ids, positions, types;
  for (int row = 0; row < c.rows; row++) {  // begins with the last row of each table, where the guard page is near
    ids.push_back((kWords - 1 + row * 3) % kWords);
    positions.push_back((kPositions - 1 + row) % kPositions);
    types.push_back((kTypes - 1 + row) % kTypes);
  }
  const int whole = whole_groups(c.columns), stride = whole + c.gap;
  const Guarded<int32_t> guarded_ids(ids), guarded_positions(positions), guarded_types(types);
  Canaried<float> hidden((size_t)c.rows * stride, sizeof(float));
  Embed embed{word.table(), position.table(), c.has_token_types ? type.table() : Table{nullptr, Dtype::f32},
              guarded_ids.data(), guarded_positions.data(), c.has_token_types ? guarded_types.data() : nullptr,
              c.rows, c.columns, hidden.data(), stride};
  kernels.embed(embed);
  CHECK(hidden.intact());
  std::vector<Expected> expected, mean(c.columns);
  for (int row = 0; row < c.rows; row++)
    for (int column = 0; column < c.columns; column++) {
      const double a = word.value((size_t)ids[row] * c.columns + column);
      const double b = position.value((size_t)positions[row] * c.columns + column);
      const double t = c.has_token_types ? type.value((size_t)types[row] * c.columns + column) : 0;
      expected.push_back(
          {a + b + t, 2 * kUnit * (std::abs(a) + std::abs(b) + std::abs(t))});  // two sums, two roundings
      mean[column].value += (a + b + t) / c.rows;
      mean[column].tolerance += 3 * kUnit * (std::abs(a) + std::abs(b) + std::abs(t));  // 3 * rows sums, over rows
    }
  check_rows(hidden.data(), stride, expected, c.rows, c.columns, whole);
  Canaried<float> alone(c.columns, sizeof(float));
  embed.hidden = alone.data();
  kernels.embed_mean(embed);
  CHECK(alone.intact());
  check_rows(alone.data(), c.columns, mean, 1, c.columns, c.columns);
  embed.rows = 0;
  kernels.embed_mean(embed);
  check_rows(alone.data(), c.columns, std::vector<Expected>(c.columns, {0, 0}), 1, c.columns, c.columns);
}

void test_embeds(const Kernels& kernels) {
  constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
  int turn = 0;
  for (int columns : kSizes)
    for (Dtype dtype : kDtypes) {
      const int rows = turn % 17 + 1;
      test_embed(kernels, {dtype, dtype, dtype, turn++ % 2 == 0, rows, columns, turn % 3 * 8});
      test_embed(kernels, {dtype, kDtypes[turn % 3], kDtypes[(turn + 1) % 3], true, 3, columns, 0});
    }
}

// Hidden rows with zeros behind their columns and NaN in the gaps between rows.
Canaried<float> make_hidden(const Floats& x, int rows, int columns, int stride) {
  const int whole = whole_groups(columns);
  Canaried<float> hidden((size_t)(rows - 1) * stride + whole, sizeof(float));
  for (int row = 0; row < rows; row++) {
    float* to = hidden.data() + (ptrdiff_t)row * stride;
    std::fill_n(to, whole, 0.0f);
    std::copy_n(x.begin() + (ptrdiff_t)row * columns, columns, to);
  }
  return hidden;
}

// Sums run in at least 4 lanes, so a number passes columns / 4 + 3 additions. With `unit` the error that they may
// leave, relative to the largest number of the row, the mean is off by that, and so is the distance to it; the variance
// by twice that, and its root by half of the variance's.
std::vector<Expected> normed(const Floats& x, const Floats& weight, const Floats& bias, int rows, int columns,
                             double eps) {
  const double unit = (columns / 4.0 + 6) * kUnit;
  std::vector<Expected> result;
  for (int row = 0; row < rows; row++) {
    const float* values = x.data() + (ptrdiff_t)row * columns;
    double mean = 0, variance = 0, largest = 0;
    for (int c = 0; c < columns; c++) mean += values[c] / (double)columns;
    for (int c = 0; c < columns; c++) variance += (values[c] - mean) * (values[c] - mean) / columns;
    for (int c = 0; c < columns; c++) largest = std::max(largest, (double)std::abs(values[c]));
    const double factor = 1 / std::sqrt(variance + eps), distance = unit * largest * factor;
    for (int c = 0; c < columns; c++) {
      const double y = (values[c] - mean) * factor;
      const double tolerance =
          (distance + std::abs(y) * (2 * distance + 2 * unit)) * std::abs(weight[c]) + kUnit * std::abs(bias[c]);
      result.push_back({y * weight[c] + bias[c], 1.1 * tolerance + 1e-12});
    }
  }
  return result;
}

void test_norm(const Kernels& kernels, int rows, int columns, int gap, float eps, float shift) {
  check::at("%s norm, rows %d columns %d gap %d eps %g shift %g", name_of(kernels).c_str(), rows, columns, gap, eps, shift);
  Random random(rows * 7919 + columns);
  Floats x = random.floats((size_t)rows * columns);
  for (float& value : x) value = value * 3 + shift;
  const Floats weight = random.floats(columns), bias = random.floats(columns);
  const Guarded<float> weights = make_bias(weight), biases = make_bias(bias);
  const int whole = whole_groups(columns), stride = whole + gap;
  Canaried<float> hidden = make_hidden(x, rows, columns, stride);
  Storage operand(kernels.operand_bytes(rows, columns));
  kernels.norm({hidden.data(), stride, rows, columns, weights.data(), biases.data(), eps, operand.data()});
  CHECK(hidden.intact() && operand.intact());
  check_rows(hidden.data(), stride, normed(x, weight, bias, rows, columns, eps), rows, columns, whole);
  const Floats copy = read_operand(kernels, operand, rows, columns);
  for (int row = 0; row < rows; row++) {
    const float* kept = hidden.data() + (ptrdiff_t)row * stride;
    const float top = *std::max_element(kept, kept + whole, [](float a, float b) { return std::abs(a) < std::abs(b); });
    for (int c = 0; c < whole; c++)
      CHECK(std::abs(copy[(size_t)row * whole + c] - kept[c]) <= operand_error(kernels, kept[c], std::abs(top)), row, c);
    for (int c = whole; row + 1 < rows && c < stride; c++) CHECK(std::isnan(kept[c]), row, c);
  }
  for (int row = 0; row < rows; row++) {  // alone, a row gets the same bits
    Canaried<float> one = make_hidden(
        {x.begin() + (ptrdiff_t)row * columns, x.begin() + (ptrdiff_t)(row + 1) * columns}, 1, columns, whole);
    Storage unused(kernels.operand_bytes(1, columns));
    kernels.norm({one.data(), whole, 1, columns, weights.data(), biases.data(), eps, unused.data()});
    CHECK(std::memcmp(one.data(), hidden.data() + (ptrdiff_t)row * stride, whole * sizeof(float)) == 0, row);
  }
}

void test_norms(const Kernels& kernels) {
  int turn = 0;
  for (int columns : kSizes) {
    if (columns == 1) continue;  // the variance of one number is zero: only eps counts, see below
    const int rows = turn++ % 9 + 1;
    test_norm(kernels, rows, columns, turn % 3 * 8, 1e-5f, 0);
    test_norm(kernels, 3, columns, 0, 1e-12f, 2);
  }
  check::at("%s norm of zeros", name_of(kernels).c_str());
  const Guarded<float> weight = make_bias({5, 6, 7}), bias = make_bias({1, 2, 3});
  Canaried<float> hidden = make_hidden({0, 0, 0}, 1, 3, kGroup);
  Storage operand(kernels.operand_bytes(1, 3));
  kernels.norm({hidden.data(), kGroup, 1, 3, weight.data(), bias.data(), 1e-12f, operand.data()});
  check_rows(hidden.data(), kGroup, {{1, 0}, {2, 0}, {3, 0}}, 1, 3, kGroup);
}

// The mean of some rows of many; the rows are as before.
void test_norm_mean(const Kernels& kernels, int rows, int columns, int gap) {
  check::at("%s norm_mean, rows %d columns %d gap %d", name_of(kernels).c_str(), rows, columns, gap);
  constexpr float kEps = 1e-5f;
  const int whole = whole_groups(columns), stride = whole + gap, before = rows % 3;
  Random random(rows * 131 + columns);
  const Floats x = random.floats((size_t)rows * columns), weight = random.floats(columns), bias = random.floats(columns);
  const Guarded<float> weights = make_bias(weight), biases = make_bias(bias);
  Floats all = random.floats((size_t)before * columns);
  all.insert(all.end(), x.begin(), x.end());
  Canaried<float> hidden = make_hidden(all, before + rows, columns, stride);
  const Floats kept(hidden.data(), hidden.data() + (size_t)(before + rows) * stride);
  Canaried<float> sum(whole, sizeof(float)), out(columns, sizeof(float));
  Norm norm{hidden.data(), stride, before + rows, columns, weights.data(), biases.data(), kEps, nullptr};
  norm.begin = before;
  norm.end = before + rows;
  kernels.norm_mean(norm, sum.data(), out.data());
  CHECK(out.intact() && sum.intact() && hidden.intact());
  CHECK(std::memcmp(kept.data(), hidden.data(), kept.size() * sizeof(float)) == 0);
  const std::vector<Expected> each = normed(x, weight, bias, rows, columns, kEps);
  std::vector<Expected> expected;
  for (int c = 0; c < columns; c++) {
    double mean = 0, tolerance = 0;
    for (int row = 0; row < rows; row++) {
      const Expected& e = each[(size_t)row * columns + c];
      mean += e.value / rows;
      tolerance += (e.tolerance + (rows + 1) * kUnit * std::abs(e.value)) / rows;
    }
    expected.push_back({mean, tolerance});
  }
  check_rows(out.data(), columns, expected, 1, columns, columns);
}

// hidden + activation(x) in ranges of rows, the rest untouched.
void test_add(const Kernels& kernels, Activation activation, int rows, int columns) {
  check::at("%s add %d, rows %d columns %d", name_of(kernels).c_str(), (int)activation, rows, columns);
  const int whole = whole_groups(columns), stride = whole + kGroup;
  Random random(rows + columns);
  Floats x = random.floats((size_t)rows * columns);
  for (float& value : x) value *= 4;
  const Floats old = random.floats((size_t)rows * columns);
  Canaried<float> added = make_hidden(x, rows, columns, stride), hidden = make_hidden(old, rows, columns, stride);
  for (int begin = 0; begin < rows; begin += 5)
    kernels.add({added.data(), stride, rows, columns, activation, hidden.data(), begin, begin + 5});
  CHECK(hidden.intact() && added.intact());
  std::vector<Expected> expected;
  for (size_t i = 0; i < x.size(); i++)
    expected.push_back({old[i] + reference_activation(activation, x[i]), 8 * kUnit * std::max(1.f, std::abs(x[i])) + 4 * kUnit});
  check_rows(hidden.data(), stride, expected, rows, columns, columns);
}

// An operand holds its floats, and ranges of rows put together are the whole.
void test_convert(const Kernels& kernels, int rows, int columns) {
  check::at("%s convert, rows %d columns %d", name_of(kernels).c_str(), rows, columns);
  const Floats x = Random(rows * 17 + columns).floats((size_t)rows * columns);
  const Guarded<float> floats(make_floats(x, rows, columns));
  Storage operand(kernels.operand_bytes(rows, columns));
  for (int begin = 0; begin < rows; begin += 5)
    kernels.convert({floats.data(), rows, columns, operand.data(), begin, begin + 5});
  CHECK(operand.intact());
  std::vector<Expected> expected;
  for (int row = 0; row < rows; row++) {
    double top = 0;
    for (int c = 0; c < columns; c++) top = std::max(top, (double)std::abs(x[(size_t)row * columns + c]));
    for (int c = 0; c < columns; c++) {
      const float value = x[(size_t)row * columns + c];
      expected.push_back({value, operand_error(kernels, value, top)});
    }
  }
  const int whole = whole_groups(columns);
  check_rows(read_operand(kernels, operand, rows, columns).data(), whole, expected, rows, columns, whole);
}

void test_table(const Kernels& kernels) {
  for (Dtype dtype : {Dtype::f16, Dtype::bf16}) {
    test_every_pattern(kernels, dtype);
    test_counts(kernels, dtype);
  }
  test_float32_is_copied(kernels);
  test_embeds(kernels);
  test_norms(kernels);
  for (Activation activation : kActivations)
    for (int columns : {3, 16, 33, 64}) test_add(kernels, activation, 13, columns);
  int turn = 0;
  for (int columns : kSizes)
    for (int rows : {1, 2, 13, 100}) {
      test_norm_mean(kernels, rows, columns, turn++ % 3 * 5);
      if (columns * rows < 20000) test_convert(kernels, rows, columns);
    }
}

}  // namespace

int main() {
  name_faults();
  for_tables(test_table);
  return check::report();
}
