// What some networks have and others not, at every usable level: gates, RMS norms, norms that leave hidden as it is.
#include "reference.h"

namespace {

// Products into floats, whose halves are then gated: activation(gates) * values.
void test_gate(const Kernels& kernels, int rows, int columns, Activation activation) {
  check::at("%s gate, rows %d columns %d activation %d", name_of(kernels).c_str(), rows, columns, (int)activation);
  const int whole = whole_groups(columns);
  const Floats x = Random(rows * 31 + columns).floats((size_t)rows * 2 * columns);
  Storage floats(floats_bytes(rows, 2 * whole));
  float* const to = (float*)floats.data();
  std::fill_n(to, (size_t)rows * 2 * whole, 0.0f);
  std::vector<Expected> expected;
  for (int row = 0; row < rows; row++) {
    double top = 0;
    const size_t begin = expected.size();
    for (int c = 0; c < columns; c++) {
      const float gate = 3 * x[(size_t)row * 2 * columns + c], value = x[((size_t)row * 2 + 1) * columns + c];
      to[((size_t)c / kGroup * rows + row) * kGroup + c % kGroup] = gate;
      to[((size_t)(whole + c) / kGroup * rows + row) * kGroup + c % kGroup] = value;
      const double result = reference_activation(activation, gate) * value;
      top = std::max(top, std::abs(result));
      const double rough = activation == Activation::none ? 0 : 8 * kUnit * std::max(1.0, std::abs((double)gate));
      expected.push_back({result, rough + 2 * kUnit * std::abs(result)});
    }
    for (size_t i = begin; i < expected.size(); i++)
      expected[i].tolerance += 1.01 * operand_error(kernels, expected[i].value, top) + 1e-12;
  }
  Storage operand(kernels.operand_bytes(rows, columns));
  for (int begin = 0; begin < rows; begin += 5)
    kernels.gate({to, rows, columns, activation, operand.data(), begin, begin + 5});
  CHECK(floats.intact() && operand.intact());
  check_rows(read_operand(kernels, operand, rows, columns).data(), whole, expected, rows, columns, whole);
}

// A product's floats are those that it adds to hidden rows of zeros.
void test_into_floats(const Kernels& kernels, int rows, int columns, int depth) {
  check::at("%s linear into floats, rows %d columns %d depth %d", name_of(kernels).c_str(), rows, columns, depth);
  Random random(rows + columns + depth);
  const Storage x = make_operand(kernels, random.floats((size_t)rows * depth), rows, depth);
  const Storage weight = make_weight(kernels, random.floats((size_t)columns * depth), columns, depth);
  const Guarded<float> bias = make_bias(random.floats(columns));
  Storage scratch = make_scratch(kernels, depth), floats(floats_bytes(rows, columns));
  const int whole = whole_groups(columns);
  Floats hidden((size_t)whole_row_groups(rows) * whole);
  Linear product{x.data(), weight.data(), bias.data(), rows, columns, depth, Activation::none, Into::floats, floats.data(), whole};
  product.scratch = scratch.data();
  kernels.linear(product);
  CHECK(floats.intact() && scratch.intact());
  product.into = Into::hidden;
  product.out = hidden.data();
  kernels.linear(product);
  hidden.resize((size_t)rows * whole);
  CHECK(read_floats(floats, rows, columns) == hidden);
}

enum class Kind { layer, rms, none };

// The norm of hidden rows that stay as they are; only the operand has it.
void test_norm(const Kernels& kernels, int rows, int columns, Kind kind, bool keep) {
  check::at("%s norm kind %d, rows %d columns %d keep %d", name_of(kernels).c_str(), (int)kind, rows, columns, keep);
  constexpr float kEps = 1e-5f;
  const int whole = whole_groups(columns);
  Random random(rows * 7 + columns);
  const Floats x = random.floats((size_t)rows * columns), weight = random.floats(columns), bias = random.floats(columns);
  const Guarded<float> weights = make_bias(weight), biases = make_bias(bias);
  Canaried<float> hidden((size_t)rows * whole, sizeof(float)), room(whole, sizeof(float));
  std::fill_n(hidden.data(), (size_t)rows * whole, 0.0f);
  for (int row = 0; row < rows; row++) std::copy_n(x.begin() + (ptrdiff_t)row * columns, columns, hidden.data() + row * whole);
  const Floats before = hidden.values();
  Storage operand(kernels.operand_bytes(rows, columns));
  Norm norm{hidden.data(), whole, rows, columns, kind == Kind::none ? nullptr : weights.data(), biases.data(), kEps,
            operand.data()};
  norm.room = keep ? nullptr : room.data();
  norm.centred = kind != Kind::rms;
  kernels.norm(norm);
  CHECK(hidden.intact() && room.intact() && operand.intact());
  std::vector<Expected> expected;
  for (int row = 0; row < rows; row++) {
    const float* values = x.data() + (ptrdiff_t)row * columns;
    double mean = 0, squares = 0, top = 0;
    for (int c = 0; kind == Kind::layer && c < columns; c++) mean += values[c] / (double)columns;
    for (int c = 0; c < columns; c++) squares += (values[c] - mean) * (values[c] - mean) / columns;
    const size_t begin = expected.size();
    for (int c = 0; c < columns; c++) {
      const double y = (values[c] - mean) / std::sqrt(squares + kEps) * weight[c] + bias[c];
      const double result = kind == Kind::none ? values[c] : y;
      top = std::max(top, std::abs(result));
      expected.push_back({result, kind == Kind::none ? 0 : (columns / 4.0 + 12) * 4 * kUnit});
    }
    for (size_t i = begin; i < expected.size(); i++)
      expected[i].tolerance += 1.01 * operand_error(kernels, expected[i].value, top);
  }
  check_rows(read_operand(kernels, operand, rows, columns).data(), whole, expected, rows, columns, whole);
  if (!keep || kind == Kind::none)
    CHECK(hidden.values() == before);
  else
    check_rows(hidden.data(), whole, expected, rows, columns, whole);
}

// Embeddings without a position table.
void test_embed(const Kernels& kernels) {
  check::at("%s embed without positions", name_of(kernels).c_str());
  const Floats word = Random(3).floats(5 * 7);
  const Guarded<float> table(word);
  const int32_t ids[] = {4, 0, 2};
  Canaried<float> hidden(3 * kGroup, sizeof(float));
  kernels.embed({{table.data(), Dtype::f32}, {nullptr, Dtype::f32}, {nullptr, Dtype::f32}, ids, nullptr, nullptr, 3, 7,
                 hidden.data(), kGroup});
  CHECK(hidden.intact());
  for (int row = 0; row < 3; row++)
    for (int c = 0; c < kGroup; c++) CHECK(hidden.data()[row * kGroup + c] == (c < 7 ? word[ids[row] * 7 + c] : 0), row, c);
}

void test_table(const Kernels& kernels) {
  int turn = 0;
  for (int columns : kSizes)
    for (int rows : {1, 3, 17}) {
      if (columns > 384) continue;
      test_gate(kernels, rows, columns, kActivations[turn % std::size(kActivations)]);
      test_into_floats(kernels, rows, columns, kSizes[turn % 18]);
      if (columns > 4) {
        test_norm(kernels, rows, columns, Kind::rms, turn % 2);
        test_norm(kernels, rows, columns, Kind::layer, turn % 3);
      }
      test_norm(kernels, rows, columns, Kind::none, turn++ % 2);
    }
  test_embed(kernels);
}

}  // namespace

int main() {
  name_faults();
  for_tables(test_table);
  return check::report();
}
