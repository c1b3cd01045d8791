// Attention at every usable level, against float64: any place in the storage, any neighbours.
#include "attention_problems.h"

namespace {

// How exact a table's attention is: its queries, keys, values and context, and a share.
struct Precision {
  double number, share;
};
Precision precision(const Kernels& kernels) {
  if (!has_tiles(kernels)) return {0, 3e-7};
  return is(kernels, "float32") ? Precision{0x1p-17, 1e-5} : Precision{0x1p-8, 7e-3};
}

struct Reference {
  std::vector<Expected> out;            // (tokens, width)
  std::vector<Expected> probabilities;  // (heads, tokens, tokens)
};

// The errors: a score is a sum of head_size products (as in test_linear); e^x adds 3e-7 and the rounding of its
// argument, and turns absolute errors of the argument into relative ones; both a share and the sum of all shares have
// these, and `tokens` additions each.
Reference reference(const Kernels& kernels, const Problem& p) {
  const Case& c = p.size;
  const Precision exact = precision(kernels);
  Reference result;
  result.out.resize((size_t)c.tokens * c.width());
  for (int head = 0; head < c.num_heads; head++)
    for (int row = 0; row < c.tokens; row++) {
      std::vector<double> shares(c.tokens), errors(c.tokens);
      double top = -1e300, sum = 0;
      for (int key = 0; key < c.tokens; key++) {
        for (int i = head * c.head_size; i < (head + 1) * c.head_size; i++) {
          const double product = p.at(row, 0, i) * p.at(key, 1, i);
          shares[key] += product;
          if (!p.exact_scores) errors[key] += c.head_size * kUnit * std::abs(product);
          if (!p.offset || i % c.head_size) errors[key] += 2 * exact.number * std::abs(product);
          if (!p.angles.empty() || !p.norms.empty())
            errors[key] += 2 * (exact.number + 4 * kUnit) * p.scale(row, 0, i) * p.scale(key, 1, i);
        }
        const auto add_vector = [&](const Floats& all, int from, int part) {
          for (int i = 0; !all.empty() && i < c.head_size; i++) {
            const double number = p.at(from, part, head * c.head_size + i);
            const double product = number * p.vectors.at(all, head, key - row, c.head_size)[i];
            shares[key] += product;
            errors[key] += (2 * c.head_size * kUnit + 2 * exact.number) * std::abs(product);
          }
        };
        add_vector(p.vectors.keys, row, 0);
        add_vector(p.vectors.queries, key, 1);
        shares[key] += p.bias_at(head, row, key);
        errors[key] += 4 * kUnit * std::abs(p.bias_at(head, row, key));
        if (!p.sees(row, key)) shares[key] = -1e300;
        top = std::max(top, shares[key]);
      }
      double worst = 0;
      for (int key = 0; key < c.tokens; key++) {
        const double argument = shares[key] - top;
        if (p.sees(row, key)) worst = std::max(worst, errors[key] + exact.share + kUnit * std::min(-argument, 90.0));
        sum += shares[key] = p.sees(row, key) ? std::exp(argument) : 0;
      }
      if (sum == 0) sum = 1;  // a query that sees nothing comes to zero
      const double relative = 2 * worst + (c.tokens + 4) * kUnit;
      for (int key = 0; key < c.tokens; key++) {
        const double share = shares[key] / sum;
        result.probabilities.push_back({share, relative * share + 1e-37});  // e^x ends at e^-87
      }
      for (int i = head * c.head_size; i < (head + 1) * c.head_size; i++) {
        Expected& out = result.out[(size_t)row * c.width() + i];
        for (int key = 0; key < c.tokens; key++) {
          const double term = shares[key] / sum * p.at(key, 2, i);
          out.value += term;
          out.tolerance += (relative + (c.tokens + 2) * kUnit + 2 * exact.number) * std::abs(term) + 1e-37;
        }
        out.tolerance += std::abs(out.value) * exact.number;
      }
    }
  return result;
}

// Only products write heads, so the numbers come in through one with the identity. Two more columns of x, which are
// zero but in `broken_row`, make that row's queries NaN and nothing else: (3e38 * 3e38) - (3e38 * 3e38) overflows.
Storage make_heads(const Kernels& kernels, const Problem& p, int broken_row) {
  const Case& c = p.size;
  const int width = 3 * c.width(), depth = width + 2, rows = c.rows();
  Floats x((size_t)rows * depth, kNan), weight((size_t)width * depth);
  for (int row = 0; row < c.tokens; row++) {
    float* to = x.data() + (ptrdiff_t)(c.before + row) * depth;
    std::copy_n(p.x.begin() + (ptrdiff_t)row * width, width, to);
    to[width] = to[width + 1] = row == broken_row ? 3e38f : 0;
  }
  for (int i = 0; i < width; i++) {
    weight[(size_t)i * depth + i] = i < c.width() && p.norms.empty() ? kernels.score_unit : 1;
    if (i >= c.width()) continue;
    weight[(size_t)i * depth + width] = 3e38f;
    weight[(size_t)i * depth + width + 1] = -3e38f;
  }
  const Storage operand = make_operand(kernels, x, rows, depth), packed = make_weight(kernels, weight, width, depth);
  Storage heads(kernels.heads_bytes(rows, c.num_heads, c.head_size));
  Storage scratch = make_scratch(kernels, depth);
  kernels.linear({operand.data(), packed.data(), nullptr, rows, width, depth, Activation::none, Into::heads, heads.data(), 0,
                  scratch.data()});
  CHECK(heads.intact());
  return heads;
}

// Turns queries and keys, in two ranges of rows; the storage's rows have positions in the opposite order.
void rotate(const Kernels& kernels, const Problem& p, Storage& heads) {
  const Case& c = p.size;
  if (p.angles.empty()) return;
  Floats table((size_t)c.rows() * c.head_size);
  std::vector<int32_t> positions;
  for (int row = 0; row < c.rows(); row++) {
    const int position = c.rows() - 1 - row, token = row - c.before;
    positions.push_back(position);
    if (token < 0 || token >= c.tokens) continue;
    for (int i = 0; i < c.head_size; i++) {
      const double angle = p.angle(token, i);
      table[(size_t)position * c.head_size + i] = (float)(i % 32 < 16 ? std::cos(angle) : std::sin(angle));
    }
  }
  const Guarded<float> angles(table);
  const int middle = c.before + c.tokens / 2;
  for (auto [begin, end] : {std::pair{c.before, middle}, {middle, c.before + c.tokens}})
    kernels.rotate({heads.data(), c.rows(), c.num_heads, c.head_size, angles.data(), positions.data(), begin, end});
  CHECK(heads.intact());
}

// Norms queries and keys, in two ranges of rows; the queries' norm scales them too.
void norm_heads(const Kernels& kernels, const Problem& p, Storage& heads) {
  const Case& c = p.size;
  if (p.norms.empty()) return;
  const int columns = c.num_heads * p.own, middle = c.before + c.tokens / 2;
  const auto numbers = [&](int i) {
    Floats each(p.norms.begin() + i * columns, p.norms.begin() + (i + 1) * columns);
    for (float& number : each) number *= i < 2 ? kernels.score_unit : 1;
    return make_bias(each);
  };
  const Guarded<float> weight[] = {numbers(0), numbers(2)}, bias[] = {numbers(1), numbers(3)};
  Canaried<float> room(whole_groups(columns) + kernels.head_group, sizeof(float));
  for (auto [begin, end] : {std::pair{c.before, middle}, {middle, c.before + c.tokens}})
    kernels.norm_heads({heads.data(),
                        c.rows(),
                        c.num_heads,
                        c.head_size,
                        p.own,
                        {weight[0].data(), weight[1].data()},
                        {bias[0].data(), bias[1].data()},
                        kEps,
                        room.data(),
                        begin,
                        end});
  CHECK(heads.intact());
  CHECK(room.intact());
}

struct Result {
  Floats out;  // (rows of the storage, width)
  Floats probabilities;
};

constexpr float kUntouched = 7.25f;

// Adds what a problem has that depends on distances alone; `bias` keeps it.
Attention with_relative(const Kernels& kernels, const Problem& p, Attention a, Floats& bias) {
  bias = p.bias;
  for (float& value : bias) value *= kernels.score_unit;
  a.bias = bias.empty() ? nullptr : bias.data();
  a.reach = p.reach;
  a.window = p.window;
  a.keys = p.keys;
  return a;
}

// Attention's scratch for a problem.
Canaried<float> make_room(const Kernels& kernels, const Problem& p) {
  size_t floats = kernels.attention_scratch(p.size.tokens, p.size.head_size);
  if (!p.vectors.row.empty()) floats += kernels.vectors_scratch(p.size.tokens, p.size.head_size);
  return Canaried<float>(floats, sizeof(float));
}

Result compute(const Kernels& kernels, const Problem& p, bool probabilities, int broken_row = -1) {
  const Case& c = p.size;
  Floats bias;
  const PackedVectors vectors(kernels, p.vectors, p.size.head_size);
  Storage heads = make_heads(kernels, p, broken_row);
  rotate(kernels, p, heads);
  norm_heads(kernels, p, heads);
  Storage out = make_operand(kernels, Floats((size_t)c.rows() * c.width(), kUntouched), c.rows(), c.width());
  Canaried<float> scratch = make_room(kernels, p);
  Canaried<float> shares(probabilities ? (size_t)c.num_heads * c.tokens * c.tokens : 0, sizeof(float));
  Attention a = with_relative(kernels, p,
                              {heads.data(), c.rows(), c.before, c.before + c.tokens, c.num_heads, c.head_size, out.data(),
                               scratch.data(), probabilities ? shares.data() : nullptr},
                              bias);
  a.vectors = vectors.view();
  kernels.attention(a);
  CHECK(heads.intact());
  CHECK(out.intact());
  CHECK(scratch.intact());
  CHECK(shares.intact());
  return {read_operand(kernels, out, c.rows(), c.width()), shares.values()};
}

void check_neighbours(const Result& result, const Case& c) {
  for (int row = 0; row < c.rows(); row++) {
    if (row >= c.before && row < c.before + c.tokens) continue;
    for (int i = 0; i < c.width(); i++) CHECK(result.out[(size_t)row * c.width() + i] == kUntouched, row, i);
  }
}

void check_probabilities(const Floats& got, const std::vector<Expected>& expected, const Case& c) {
  check_rows(got.data(), c.tokens, expected, c.num_heads * c.tokens, c.tokens, c.tokens);
  for (int row = 0; row < c.num_heads * c.tokens; row++) {
    double sum = 0, wanted = 0;
    for (int key = 0; key < c.tokens; key++) {
      sum += got[(size_t)row * c.tokens + key];
      wanted += expected[(size_t)row * c.tokens + key].value;
    }
    CHECK(std::abs(sum - std::round(wanted)) <= (c.tokens + 2) * kUnit, row, sum);
  }
}

void name_case(const Kernels& kernels, const char* what, const Case& c) {
  check::at("%s attention %s, tokens %d heads %d size %d before %d after %d", name_of(kernels).c_str(), what, c.tokens,
            c.num_heads, c.head_size, c.before, c.after);
}

void test_case(const Kernels& kernels, const char* what, const Problem& p) {
  const Case& c = p.size;
  name_case(kernels, what, c);
  const Reference expected = reference(kernels, p);
  const Result result = compute(kernels, p, true);
  check_rows(result.out.data() + (ptrdiff_t)c.before * c.width(), c.width(), expected.out, c.tokens, c.width(),
             c.width());
  check_probabilities(result.probabilities, expected.probabilities, c);
  check_neighbours(result, c);
}

// The bits depend neither on the sequence's place, nor on its neighbours, nor on whether probabilities are wanted.
void test_bits(const Kernels& kernels, Problem p) {
  const Case alone = p.size;
  const Floats expected = compute(kernels, p, true).out;
  for (auto [before, after] : {std::pair{0, 0}, {1, 0}, {0, 5}, {3, 2}, {13, 16}, {16, 1}}) {
    p.size.before = before;
    p.size.after = after;
    name_case(kernels, "bits", p.size);
    const Result result = compute(kernels, p, false);
    CHECK(std::memcmp(result.out.data() + (ptrdiff_t)before * alone.width(), expected.data(),
                      expected.size() * sizeof(float)) == 0);
    check_neighbours(result, p.size);
  }
}

// A query of NaN gives NaN in its own row, and leaves the others' bits as they were.
void test_broken_query(const Kernels& kernels, const Case& c, int broken) {
  name_case(kernels, "broken query", c);
  const Problem p = make_problem(c);
  const Result whole = compute(kernels, p, true), result = compute(kernels, p, true, broken);
  for (int row = 0; row < c.tokens; row++)
    for (int i = 0; i < c.width(); i++) {
      const size_t at = (size_t)(c.before + row) * c.width() + i;
      CHECK(row == broken ? std::isnan(result.out[at]) : same(result.out[at], whole.out[at]), row, i, result.out[at],
            whole.out[at]);
    }
  for (int row = 0; row < c.num_heads * c.tokens; row++)
    for (int key = 0; key < c.tokens; key++) {
      const size_t at = (size_t)row * c.tokens + key;
      const float got = result.probabilities[at], was = whole.probabilities[at];
      CHECK(row % c.tokens == broken ? std::isnan(got) : same(got, was), row, key, got, was);
    }
}

// Ranges of heads, put together, are all heads to the last bit.
void test_head_ranges(const Kernels& kernels, const Problem& p) {
  const Case& c = p.size;
  name_case(kernels, "head ranges", c);
  const Floats expected = compute(kernels, p, false).out;
  const Storage heads = make_heads(kernels, p, -1);
  const PackedVectors vectors(kernels, p.vectors, p.size.head_size);
  Storage out = make_operand(kernels, Floats((size_t)c.rows() * c.width(), kUntouched), c.rows(), c.width());
  Canaried<float> scratch = make_room(kernels, p);
  for (auto [first, last] : {std::pair{0, 2}, {2, 3}, {3, 5}}) {
    Attention a{heads.data(), c.rows(), c.before, c.before + c.tokens, c.num_heads, c.head_size, out.data(),
                scratch.data(), nullptr, first, last};
    a.vectors = vectors.view();
    kernels.attention(a);
  }
  CHECK(out.intact() && read_operand(kernels, out, c.rows(), c.width()) == expected);
}

// Biases that reach further than the sequence or not as far, windows from a token's own key to all keys.
void test_relatives(const Kernels& kernels) {
  for (int tokens : {1, 2, 7, 16, 17, 33, 64, 100, 130})
    for (int reach : {0, 1, 5, 200})
      for (int window : {0, 1, 3, 16, 64, kAll}) {
        if (tokens > 33 && reach % 2 != window % 2) continue;
        const int heads = 1 + tokens % 3, size = tokens % 2 ? 32 : 64;
        test_case(kernels, "with bias and window", make_relative({tokens, heads, size, tokens % 4, tokens % 5}, reach, window));
      }
  for (int tokens : {1, 33, 100}) test_bits(kernels, make_relative({tokens, 2, 32, 0, 0}, 9, 20));
}

// Vectors for queries, keys or both, each distance's own or shared by some, each head's own or shared by all.
void test_vectors(const Kernels& kernels) {
  int turn = 0;
  for (int tokens : {1, 2, 7, 16, 17, 31, 33, 64, 130})
    for (int near : {1, 5, 40, 200})
      for (int whose : {1, 2, 3}) {
        if (tokens > 33 && turn++ % 4) continue;
        const int heads = 1 + tokens % 3, size = (tokens + near + whose) % 2 ? 32 : 64;
        const Case c{tokens, heads, size, tokens % 4, tokens % 5};
        test_case(kernels, "with vectors", make_vectors(c, near, whose & 1, whose & 2, (tokens + whose) % 2));
      }
  test_case(kernels, "with vectors", make_vectors({37, 2, 96, 1, 1}, 20, true, true, false));
  for (int tokens : {33, 100})
    if (has_tiles(kernels)) test_case(kernels, "of offset scores with vectors", make_offset_vectors({tokens, 2, 64, 1, 2}));
  for (int tokens : {1, 33, 100}) test_bits(kernels, make_vectors({tokens, 2, 32, 0, 0}, 20, true, true, false));
  test_head_ranges(kernels, make_vectors({19, 5, 32, 2, 1}, 6, true, true, false));
}

// Only a sequence's first rows are keys. With a window, queries far behind the last key see none.
void test_keys(const Kernels& kernels) {
  int turn = 0;
  for (int tokens : {1, 2, 17, 33, 70})
    for (int keys : {1, 2, 15, 16, 32, 33, 64})
      for (int window : {0, 3, 40, kAll}) {
        if (keys > tokens || (tokens > 33 && turn++ % 3)) continue;
        Problem problem = make_relative({tokens, 1 + tokens % 2, tokens % 2 ? 32 : 64, tokens % 4, tokens % 5}, keys % 3, window);
        problem.keys = keys;
        test_case(kernels, "with fewer keys", problem);
        problem.size.before = problem.size.after = 0;
        if (window == kAll) test_bits(kernels, problem);
      }
}

// Queries and keys that are turned by their positions.
void test_rotations(const Kernels& kernels) {
  for (int tokens : {1, 2, 15, 33, 70})
    for (int size : {32, 64, 96}) {
      Problem problem = make_problem({tokens, 1 + tokens % 3, size, tokens % 4, tokens % 5});
      problem.angles = Random(tokens).floats(tokens);
      test_case(kernels, "of turned heads", problem);
    }
}

// Queries and keys that are normed over all heads, of numbers that fill their columns and that don't.
void test_head_norms(const Kernels& kernels) {
  for (int tokens : {1, 2, 15, 33, 70})
    for (int own : {1, 15, 16, 17, 32, 40, 64, 96}) {
      const int size = (own + kernels.head_group - 1) / kernels.head_group * kernels.head_group;
      test_case(kernels, "of normed heads", make_normed({tokens, 2 + tokens % 3, size, tokens % 4, tokens % 5}, own));
    }
  for (int tokens : {1, 33}) test_bits(kernels, make_normed({tokens, 3, 32, 0, 0}, 20));
}

void test_table(const Kernels& kernels) {
  if (has_tiles(kernels) && is(kernels, "int8")) {  // bfloat16's, but for where it puts its numbers: see self_test
    CHECK(kernels.heads_bytes == level(kernels.level).tables[1].heads_bytes);
    CHECK(kernels.pack_vectors == level(kernels.level).tables[1].pack_vectors);
    return;
  }
  if (!has_tiles(kernels) && !is(kernels, "float32")) {  // this attention is float32's own, in the same table of the level
    const Kernels& plain = *level(kernels.level).tables;
    CHECK(kernels.attention == plain.attention && kernels.heads_bytes == plain.heads_bytes);
    CHECK(kernels.pack_vectors == plain.pack_vectors && kernels.norm_heads == plain.norm_heads);
    return;
  }
  constexpr int kTokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 257};
  std::vector<int> sizes = {16, 32, 64, 80};
  if (has_tiles(kernels)) sizes = {32, 64, 96, 128};
  const int smallest = sizes[0];
  int turn = 0;
  for (int tokens : kTokens)
    for (int size : sizes) {
      if (tokens > 33 && turn++ % 2) continue;
      const int heads = tokens > 33 ? 2 : 1 + tokens % 3;
      test_case(kernels, "alone", make_problem({tokens, heads, size, 0, 0}));
      if (size < 64)
        test_case(kernels, "among others", make_problem({tokens, heads, size, 2 * (tokens % 4) + 1, tokens % 5}));
      if (size == 16) test_case(kernels, "of large scores", make_large_scores({tokens, heads, size, 1, 2}));
      if (has_tiles(kernels)) test_case(kernels, "of offset scores", make_offset_scores({tokens, heads, size, 1, 2}));
    }
  for (int tokens : {1, 5, 12, 13, 33, 100}) test_bits(kernels, make_problem({tokens, 3, 32, 0, 0}));
  test_relatives(kernels);
  test_vectors(kernels);
  test_keys(kernels);
  test_rotations(kernels);
  test_head_norms(kernels);
  for (int broken : {0, 7, 18}) test_broken_query(kernels, {19, 2, 32, 3, 1}, broken);
  test_broken_query(kernels, {1, 1, smallest, 0, 0}, 0);
  test_head_ranges(kernels, make_problem({19, 5, 32, 2, 1}));
}

}  // namespace

int main() {
  name_faults();
  for_tables(test_table);
  return check::report();
}
