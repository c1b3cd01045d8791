// Products at every usable level and dtype, against float64.
#include "head.h"
#include "reference.h"
#include "self_test.h"

namespace {

struct Case {
  int rows, columns, depth;
  bool has_bias;
  Activation activation;
};

// A product's numbers, the same for every level.
struct Problem {
  Case size;
  Random random;
  Floats x, weight, bias;

  explicit Problem(const Case& c)
      : size(c),
        random(c.rows * 1000003 + c.columns * 1009 + c.depth),
        x(random.floats((size_t)c.rows * c.depth)),
        weight(random.floats((size_t)c.columns * c.depth)),
        bias(random.floats(c.columns)) {
    if (!c.has_bias) bias.assign(c.columns, 0);
  }

  // A sum of n float32 numbers, added one after the other, is off by at most n roundings of the sum of their sizes;
  // here n = depth products, a bias, and what was in hidden. To that comes what the table's numbers are off by. No
  // activation here is steeper than 1.2.
  std::vector<Expected> expected(const Kernels& kernels, const Floats& before) const {
    constexpr double kSteepest = 1.2;
    const int depth = size.depth;
    std::vector<Expected> result;
    for (int row = 0; row < size.rows; row++)
      for (int column = 0; column < size.columns; column++) {
        const float* a = x.data() + (size_t)row * depth;
        const float* b = weight.data() + (size_t)column * depth;
        const double row_top = largest(a, depth), top = largest(b, depth);
        double sum = bias[column], sizes = std::abs(sum), off = 0;
        for (int k = 0; k < depth; k++) {
          const double product = (double)a[k] * b[k], weight_off = weight_error(kernels, b[k], top);
          sum += product;
          sizes += std::abs(product);
          off += std::abs(a[k]) * weight_off + (std::abs(b[k]) + weight_off) * operand_error(kernels, a[k], row_top);
        }
        const double old = before.empty() ? 0 : before[(size_t)row * size.columns + column];
        const double roundings = (depth + 4) * kUnit * (sizes + off + std::abs(old));
        const double extra = activation_error(kernels, size.activation, sum);
        result.push_back({reference_activation(size.activation, sum) + old, kSteepest * (roundings + off) + extra});
      }
    return result;
  }

  static double largest(const float* x, int count) {
    double result = 0;
    for (int i = 0; i < count; i++) result = std::max(result, (double)std::abs(x[i]));
    return result;
  }
};

// A product with an activation, read back as rows of whole groups: from floats if the table wants it so.
Floats inner_product(const Kernels& kernels, Linear a, int begin = 0, int end = kAll) {
  Storage out(kernels.converts_inner ? floats_bytes(a.rows, a.columns) : kernels.operand_bytes(a.rows, a.columns));
  Storage scratch = make_scratch(kernels, a.depth);
  a.out = out.data();
  a.scratch = scratch.data();
  a.begin = begin;
  a.end = end;
  kernels.linear(a);
  CHECK(out.intact() && scratch.intact());
  return kernels.converts_inner ? read_floats(out, a.rows, a.columns) : read_operand(kernels, out, a.rows, a.columns);
}

void name_case(const Kernels& kernels, const char* into, const Case& c) {
  check::at("%s linear into %s, rows %d columns %d depth %d bias %d activation %d", name_of(kernels).c_str(), into, c.rows,
            c.columns, c.depth, c.has_bias, (int)c.activation);
}

void test_into_inner(const Kernels& kernels, const Case& c) {
  name_case(kernels, "inner", c);
  const Problem problem(c);
  const Storage x = make_operand(kernels, problem.x, c.rows, c.depth);
  const Storage weight = make_weight(kernels, problem.weight, c.columns, c.depth);
  const Guarded<float> bias = make_bias(problem.bias);
  const Floats got = inner_product(kernels, {x.data(), weight.data(), c.has_bias ? bias.data() : nullptr, c.rows, c.columns,
                                             c.depth, c.activation, Into::inner, nullptr, 0});
  CHECK(x.intact() && weight.intact());
  std::vector<Expected> expected = problem.expected(kernels, {});
  for (Expected& e : expected) e.tolerance += (std::abs(e.value) + e.tolerance) * part_error(kernels);  // stored once more
  check_rows(got.data(), whole_groups(c.columns), expected, c.rows, c.columns, whole_groups(c.columns));
}

void test_into_hidden(const Kernels& kernels, const Case& c, int gap) {
  name_case(kernels, "hidden", c);
  Problem problem(c);
  const int whole = whole_groups(c.columns), stride = whole + gap;
  const Storage x = make_operand(kernels, problem.x, c.rows, c.depth);
  const Storage weight = make_weight(kernels, problem.weight, c.columns, c.depth);
  const Guarded<float> bias = make_bias(problem.bias);
  const Floats before = problem.random.floats((size_t)c.rows * c.columns);
  // The gaps between rows hold NaN and must keep it.
  Canaried<float> hidden((size_t)whole_row_groups(c.rows) * stride, sizeof(float));
  Storage scratch = make_scratch(kernels, c.depth);
  for (int row = 0; row < c.rows; row++) {
    float* to = hidden.data() + (ptrdiff_t)row * stride;
    std::fill_n(to, whole, 0.0f);
    std::copy_n(before.begin() + (ptrdiff_t)row * c.columns, c.columns, to);
  }
  kernels.linear({x.data(), weight.data(), c.has_bias ? bias.data() : nullptr, c.rows, c.columns, c.depth,
                  Activation::none, Into::hidden, hidden.data(), stride, scratch.data()});
  CHECK(hidden.intact() && scratch.intact() && x.intact() && weight.intact());
  check_rows(hidden.data(), stride, problem.expected(kernels, before), c.rows, c.columns, whole);
  for (int row = 0; row + 1 < c.rows; row++)
    for (int i = whole; i < stride; i++) CHECK(std::isnan(hidden.data()[(ptrdiff_t)row * stride + i]), row, i);
}

void test_sizes(const Kernels& kernels) {
  constexpr int kRows[] = {1, 2, 11, 12, 13, 15, 16, 17};
  int turn = 0;
  for (int columns : kSizes)
    for (int depth : kSizes) {
      const int rows = columns + depth > 768 ? 1 + turn % 3 : kRows[turn % std::size(kRows)];
      const Case c{rows, columns, depth, turn % 3 != 0, Activation::none};
      if (++turn % 2) {
        test_into_inner(kernels, c);
      } else {
        test_into_hidden(kernels, c, turn % 4 * 8);
      }
    }
}

void test_ragged_rows(const Kernels& kernels) {
  for (int rows : {1, 2, 11, 12, 13, 15, 16, 17, 100})
    for (Activation activation : kActivations) {
      test_into_inner(kernels, {rows, 40, 97, true, activation});
      test_into_hidden(kernels, {rows, 47 + (int)activation, 19, rows % 2 == 0, Activation::none}, (int)activation);
    }
  // Deep enough, with rows enough, for more than one block of rows.
  test_into_inner(kernels, {200, 20, 768, true, Activation::gelu});
  test_into_hidden(kernels, {61, 33, 3072, true, Activation::none}, 3);
  // Whole blocks without a bias, which tiles add up in hidden itself.
  for (int rows : {1, 16, 17, 61}) test_into_hidden(kernels, {rows, 96, 512, false, Activation::none}, rows % 2 * 16);
}

// Every activation on a fine grid and far out, one number a row; NaN stays NaN.
void test_activations(const Kernels& kernels) {
  Floats x = {0.0f, -0.0f, 1e-30f, -1e-30f, 40, -40, 87.5f, -87.5f, 100, -100, 1e4f, -1e4f, kNan};
  for (int i = -5000; i <= 5000; i++) x.push_back((float)i / 256);
  const int rows = (int)x.size();
  const Storage operand = make_operand(kernels, x, rows, 1), one = make_weight(kernels, {1}, 1, 1);
  for (Activation activation : kActivations) {
    check::at("%s activation %d", name_of(kernels).c_str(), (int)activation);
    const Floats got = inner_product(
        kernels, {operand.data(), one.data(), nullptr, rows, 1, 1, activation, Into::inner, nullptr, 0});
    for (int row = 0; row < rows; row++) {
      const double want = reference_activation(activation, x[row]), value = got[(size_t)row * kGroup];
      // A few roundings of a number as large as the argument, which 1 + erf and 1 - 2 / (e^2x + 1) leave where the
      // result is small. Behind -6 or so the result is as good as zero, and so must be what the kernel gives.
      const double size = std::clamp((double)std::abs(x[row]), 1.0, std::max(6.0, std::abs(want)));
      const double stored = part_error(kernels) * (1.2 * std::min((double)std::abs(x[row]), size) + std::abs(want));
      const double tolerance = activation_error(kernels, activation, size) + 8 * kUnit * size + stored;
      CHECK(std::isnan(want) ? std::isnan(value) : std::abs(value - want) <= tolerance, x[row], value, want, tolerance);
    }
  }
}

// A row's bits are the same whatever the number of rows and its place among them.
void test_row_bits(const Kernels& kernels, int columns, int depth, Into into, bool has_bias = true) {
  constexpr int kMost = 200;
  const Problem problem({kMost, columns, depth, has_bias, Activation::none});
  const Storage weight = make_weight(kernels, problem.weight, columns, depth);
  const Guarded<float> bias = make_bias(problem.bias);
  const int whole = whole_groups(columns);
  const auto compute = [&](int begin, int rows) {
    const Floats some(problem.x.begin() + (ptrdiff_t)begin * depth,
                      problem.x.begin() + (ptrdiff_t)(begin + rows) * depth);
    const Storage x = make_operand(kernels, some, rows, depth);
    Linear a{x.data(), weight.data(), has_bias ? bias.data() : nullptr, rows, columns, depth, Activation::none, into, nullptr,
             whole};
    if (into == Into::hidden) {
      Floats out((size_t)whole_row_groups(rows) * whole);
      Storage scratch = make_scratch(kernels, depth);
      a.out = out.data();
      a.scratch = scratch.data();
      kernels.linear(a);
      out.resize((size_t)rows * whole);
      return out;
    }
    a.activation = Activation::gelu;
    return inner_product(kernels, a);
  };
  const Floats all = compute(0, kMost);
  for (int rows : {1, 2, 3, 5, 6, 7, 11, 12, 13, 16, 17, 29, 100, 171})
    for (int begin : {0, 1, 13, kMost - rows}) {
      if (begin + rows > kMost) continue;
      check::at("%s row bits, into %d rows %d begin %d depth %d", name_of(kernels).c_str(), (int)into, rows, begin, depth);
      const Floats some = compute(begin, rows);
      CHECK(std::memcmp(some.data(), all.data() + (ptrdiff_t)begin * whole, some.size() * sizeof(float)) == 0);
    }
}

// A row with a NaN or an infinite number stays in its row.
void test_broken_row(const Kernels& kernels, int columns, float value) {
  constexpr int kRows = 17, kDepth = 65, kBroken = 5;
  const int stride = whole_groups(columns);
  check::at("%s broken row, columns %d", name_of(kernels).c_str(), columns);
  Problem problem({kRows, columns, kDepth, false, Activation::none});
  const Storage weight = make_weight(kernels, problem.weight, columns, kDepth);
  const auto compute = [&] {
    const Storage x = make_operand(kernels, problem.x, kRows, kDepth);
    Floats out(whole_row_groups(kRows) * stride);
    Storage scratch = make_scratch(kernels, kDepth);
    kernels.linear({x.data(), weight.data(), nullptr, kRows, columns, kDepth, Activation::none, Into::hidden, out.data(), stride,
                    scratch.data()});
    return out;
  };
  const Floats whole = compute();
  problem.x[kBroken * kDepth + 40] = value;
  const Floats broken = compute();
  for (int row = 0; row < kRows; row++)
    for (int column = 0; column < columns; column++) {
      const float now = broken[row * stride + column], was = whole[row * stride + column];
      CHECK(row == kBroken ? !std::isfinite(now) : same(now, was), row, column, now, was);
    }
}

void test_head(const Kernels& kernels, int columns, int depth, bool has_bias, Activation activation) {
  constexpr int kMost = 300;  // more than two blocks
  const Problem problem({kMost, columns, depth, has_bias, activation});
  const Guarded<float> weight(problem.weight), bias(problem.bias), x(problem.x);
  const Head head(weight.data(), has_bias ? bias.data() : nullptr, columns, depth, activation, kernels);
  const auto compute = [&](int begin, int rows) {
    check::at("%s head, columns %d depth %d bias %d activation %d, rows %d from %d", name_of(kernels).c_str(), columns, depth,
              has_bias, (int)activation, rows, begin);
    Canaried<float> out((size_t)rows * columns, sizeof(float));
    head.apply(x.data() + (ptrdiff_t)begin * depth, rows, out.data());
    CHECK(out.intact());
    return out.values();
  };
  const Floats all = compute(0, kMost);
  check_rows(all.data(), columns, problem.expected(kernels, {}), kMost, columns, columns);
  for (int rows : {0, 1, 127, 128, 129})
    for (int begin : {0, 77, kMost - rows}) {
      const Floats some = compute(begin, rows);
      CHECK(std::equal(some.begin(), some.end(), all.begin() + (ptrdiff_t)begin * columns, same));
    }
}

// Ranges of columns, put together, are the whole product to the last bit.
void test_column_ranges(const Kernels& kernels, int columns, bool has_bias) {
  constexpr int kRows = 29, kDepth = 70;
  check::at("%s column ranges, columns %d bias %d", name_of(kernels).c_str(), columns, has_bias);
  const Problem problem({kRows, columns, kDepth, has_bias, Activation::none});
  const Storage x = make_operand(kernels, problem.x, kRows, kDepth);
  const Storage weight = make_weight(kernels, problem.weight, columns, kDepth);
  const Guarded<float> bias = make_bias(problem.bias);
  const int stride = whole_groups(columns);
  const auto compute = [&](std::vector<int> cuts) {
    Floats out((size_t)whole_row_groups(kRows) * stride);
    Storage scratch = make_scratch(kernels, kDepth);
    for (size_t i = 0; i + 1 < cuts.size(); i++)
      kernels.linear({x.data(), weight.data(), has_bias ? bias.data() : nullptr, kRows, columns, kDepth, Activation::none,
                      Into::hidden, out.data(), stride, scratch.data(), cuts[i], cuts[i + 1]});
    out.resize((size_t)kRows * stride);
    return out;
  };
  const Floats whole = compute({0, kAll});
  const int panel = kernels.panel;
  CHECK(compute({0, panel, columns}) == whole);
  CHECK(compute({0, 2 * panel, 3 * panel, columns}) == whole);
}

// Packing panel by panel gives the bytes of packing at once.
void test_panels(const Kernels& kernels) {
  constexpr int kDepth = 70;
  const int columns = 2 * kernels.panel + 3;
  check::at("%s panels", name_of(kernels).c_str());
  const Floats weight = Random(7).floats((size_t)columns * kDepth);
  const Storage whole = make_weight(kernels, weight, columns, kDepth);
  Storage parts(kernels.weight_bytes(columns, kDepth));
  for (int column = 0; column < columns; column += kernels.panel)
    kernels.pack_weight(weight.data() + (size_t)column * kDepth, std::min(kernels.panel, columns - column), kDepth,
                        parts.data() + kernels.weight_bytes(column, kDepth));
  CHECK(parts.intact() && parts.values() == whole.values());
}

void test_table(const Kernels& kernels) {
  test_sizes(kernels);
  test_ragged_rows(kernels);
  test_activations(kernels);
  for (Into into : {Into::inner, Into::hidden}) {
    test_row_bits(kernels, 33, 97, into);
    test_row_bits(kernels, 20, 768, into);
  }
  test_row_bits(kernels, 96, 65, Into::hidden, false);
  for (float value : {kNan, std::numeric_limits<float>::infinity()})
    for (int columns : {33, 96}) test_broken_row(kernels, columns, value);
  test_column_ranges(kernels, 3 * kernels.panel + 5, true);
  test_column_ranges(kernels, 4 * kernels.panel, false);
  test_panels(kernels);
  if (is(kernels, "float32") && !has_tiles(kernels)) {  // heads never take tiles: see `plain_kernels`
    test_head(kernels, 1, 97, true, Activation::none);
    test_head(kernels, 3, 64, false, Activation::tanh);
    for (Activation activation : kActivations) test_head(kernels, 40, 33, true, activation);
  }
  check::at("%s self test", name_of(kernels).c_str());
  const double float32_most = has_tiles(kernels) ? 1e-4 : 2e-5, other_most = is(kernels, "bfloat16") ? 0.05 : 0.15;
  const double error = self_test(kernels), most = is(kernels, "float32") ? float32_most : other_most;
  CHECK(error >= 0 && error < most, error);
}

}  // namespace

int main() {
  name_faults();
  for_tables(test_table);
  return check::report();
}
