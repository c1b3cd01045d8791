// Everything between the products, written once over Vec: activations, softmax, norm, embedding, mean.

// max and min give their second argument where one is not a number; the variable stands there, so that a NaN
// from damaged weights comes out as a NaN.
inline Vec clamp(Vec x, float low, float high) { return min(Vec::all(high), max(Vec::all(low), x)); }

// e^x to 1e-7 relative, x clamped to [-87, 88]: 2^n * e^s with |s| <= ln 2 / 2 and e^s a polynomial (fitted for
// least largest error).
inline Vec exp(Vec x) {
  x = clamp(x, -87.0f, 88.0f);
  Vec n = round(x * Vec::all(0x1.715476p0f));                    // x / ln 2
  Vec s = multiply_add(n, Vec::all(-0x1.62e4p-1f), x);           // ln 2 in two parts: the first is
  s = multiply_add(n, Vec::all(-0x1.7f7d1cp-20f), s);            // short, so its product is exact
  Vec p = Vec::all(0.0013814612720f);
  p = multiply_add(p, s, Vec::all(0.0083687102332f));
  p = multiply_add(p, s, Vec::all(0.0416683873985f));
  p = multiply_add(p, s, Vec::all(0.1666652068627f));
  p = multiply_add(p, s, Vec::all(0.4999999345147f));
  p = multiply_add(p, s, Vec::all(1.0f));
  p = multiply_add(p, s, Vec::all(1.0f));
  return p * power_of_two(n);
}

// erf(z) to 2e-8: z * P(z^2) / Q(z^2) on [-4, 4] (fitted for least largest error), +-1 beyond.
inline Vec erf(Vec z) {
  z = clamp(z, -4.0f, 4.0f);
  Vec u = z * z;
  Vec p = Vec::all(1.9748010e-06f);
  p = multiply_add(p, u, Vec::all(0.00028804009f));
  p = multiply_add(p, u, Vec::all(0.0040036720f));
  p = multiply_add(p, u, Vec::all(0.053467564f));
  p = multiply_add(p, u, Vec::all(0.19624987f));
  p = multiply_add(p, u, Vec::all(1.1283790f));
  Vec q = Vec::all(3.7480488e-05f);
  q = multiply_add(q, u, Vec::all(0.0012163623f));
  q = multiply_add(q, u, Vec::all(0.015444481f));
  q = multiply_add(q, u, Vec::all(0.11647677f));
  q = multiply_add(q, u, Vec::all(0.50725305f));
  q = multiply_add(q, u, Vec::all(1.0f));
  return z * p / q;
}

inline Vec sigmoid(Vec x) { return Vec::all(1) / (Vec::all(1) + exp(Vec::zero() - x)); }

inline Vec tanh(Vec x) { return Vec::all(1) - Vec::all(2) / (exp(x + x) + Vec::all(1)); }

// x * (1 + tanh(inner)) / 2, the shape of both tanh approximations of GELU.
inline Vec gelu_by_tanh(Vec x, Vec inner) { return x * sigmoid(inner + inner); }

inline Vec gelu(Vec x) {
  Vec half = Vec::all(0.5f) * max(Vec::all(-6), x);  // beyond it gelu is 0, but 1 + erf keeps a rounding error
  return multiply_add(half, erf(x * Vec::all(0.70710678f)), half);
}

inline Vec gelu_tanh(Vec x) {
  Vec cube = x * x * x;
  return gelu_by_tanh(x, Vec::all(0.79788456f) * multiply_add(cube, Vec::all(0.044715f), x));
}

inline Vec gelu_fast(Vec x) {
  Vec inner = multiply_add(Vec::all(0.044715f) * x, x, Vec::all(1));
  return gelu_by_tanh(x, Vec::all(0.7978845608f) * x * inner);
}

inline Vec quick_gelu(Vec x) { return x * sigmoid(Vec::all(1.702f) * x); }

inline Vec silu(Vec x) { return x * sigmoid(x); }

inline Vec relu(Vec x) { return max(Vec::zero(), x); }

template <Vec (*function)(Vec)>
inline void apply(float* x, int count) {
  for (int i = 0; i < count; i += Vec::lanes) function(Vec::load(x + i)).store(x + i);
}

// In place on `count` floats, a multiple of kGroup.
inline void activate(Activation activation, float* x, int count) {
  switch (activation) {
    case Activation::none: return;
    case Activation::gelu: return apply<gelu>(x, count);
    case Activation::gelu_tanh: return apply<gelu_tanh>(x, count);
    case Activation::gelu_fast: return apply<gelu_fast>(x, count);
    case Activation::quick_gelu: return apply<quick_gelu>(x, count);
    case Activation::relu: return apply<relu>(x, count);
    case Activation::silu: return apply<silu>(x, count);
    case Activation::tanh: return apply<tanh>(x, count);
  }
}

inline int smaller(int a, int b) { return a < b ? a : b; }

void add(const Add& a) {
  const int whole = whole_groups(a.columns);
  for (int row = a.begin; row < smaller(a.end, a.rows); row++) {
    float *x = a.x + (ptrdiff_t)row * a.stride, *out = a.hidden + (ptrdiff_t)row * a.stride;
    activate(a.activation, x, whole);
    for (int c = 0; c < whole; c += Vec::lanes) (Vec::load(out + c) + Vec::load(x + c)).store(out + c);
  }
}

// The value group `g` of row `row` in floats (rows, columns): [group][row][kGroup].
inline float* floats_at(void* floats, int rows, int row, int group) {
  return (float*)floats + ((ptrdiff_t)group * rows + row) * kGroup;
}

// A row of float32 numbers in groups that lie `group_stride` floats apart, zeros past the columns.
struct GroupedRow {
  const float* x;
  ptrdiff_t group_stride;
  const float* at(int column) const { return x + column / kGroup * group_stride + column % kGroup; }
};

// `Operand` is how a table stores operands: bytes(rows, columns), and store(operand, rows, row, columns, GroupedRow).
struct FloatOperand {
  static size_t bytes(int rows, int columns) { return floats_bytes(rows, columns); }
  static void store(void* operand, int rows, int row, int columns, const GroupedRow& from) {
    for (int c = 0; c < whole_groups(columns); c += Vec::lanes)
      Vec::load(from.at(c)).store(floats_at(operand, rows, row, c / kGroup) + c % kGroup);
  }
};

template <class Operand>
void convert(const Convert& a) {
  for (int row = a.begin; row < smaller(a.end, a.rows); row++)
    Operand::store(a.operand, a.rows, row, a.columns, {a.floats + (ptrdiff_t)row * kGroup, (ptrdiff_t)a.rows * kGroup});
}

template <class Operand, Vec (*function)(Vec)>
inline void gate_rows(const Gate& a) {
  const int whole = whole_groups(a.columns);
  const ptrdiff_t group_stride = (ptrdiff_t)a.rows * kGroup;
  for (int row = a.begin; row < smaller(a.end, a.rows); row++) {
    const GroupedRow gates{a.floats + (ptrdiff_t)row * kGroup, group_stride};
    for (int c = 0; c < whole; c += Vec::lanes)
      (function(Vec::load(gates.at(c))) * Vec::load(gates.at(whole + c))).store((float*)gates.at(c));
    Operand::store(a.operand, a.rows, row, a.columns, gates);
  }
}

inline Vec unchanged(Vec x) { return x; }

template <class Operand>
void gate(const Gate& a) {
  switch (a.activation) {
    case Activation::none: return gate_rows<Operand, unchanged>(a);
    case Activation::gelu: return gate_rows<Operand, gelu>(a);
    case Activation::gelu_tanh: return gate_rows<Operand, gelu_tanh>(a);
    case Activation::gelu_fast: return gate_rows<Operand, gelu_fast>(a);
    case Activation::quick_gelu: return gate_rows<Operand, quick_gelu>(a);
    case Activation::relu: return gate_rows<Operand, relu>(a);
    case Activation::silu: return gate_rows<Operand, silu>(a);
    case Activation::tanh: return gate_rows<Operand, tanh>(a);
  }
}

// The sum of part(c) for c = 0, lanes, ... below `columns`: four at a time, which don't wait for one another.
template <class Part>
inline float sum_of(int columns, Part part) {
  Vec sum[4] = {Vec::zero(), Vec::zero(), Vec::zero(), Vec::zero()};
  int c = 0;
  for (; c + 3 * Vec::lanes < columns; c += 4 * Vec::lanes)
    for (int i = 0; i < 4; i++) sum[i] = sum[i] + part(c + i * Vec::lanes);
  for (; c < columns; c += Vec::lanes) sum[0] = sum[0] + part(c);
  return ((sum[0] + sum[1]) + (sum[2] + sum[3])).sum();
}

// One row's norm.
struct NormedRow {
  const Norm& a;
  const float* x;
  Vec mean, factor;

  NormedRow(const Norm& norm, const float* row) : a(norm), x(row) {
    const float scale = 1.0f / a.columns;
    mean = Vec::zero();
    if (a.centred) mean = Vec::all(sum_of(a.columns, [&](int c) { return Vec::load(x + c); }) * scale);  // zeros past the columns
    const float squares = sum_of(a.columns, [&](int c) {
      const Vec d = (Vec::load(x + c) - mean).first(a.columns - c);
      return d * d;
    });
    factor = Vec::all(1.0f / __builtin_sqrtf(squares * scale + a.eps));
  }

  Vec at(int c) const {
    return multiply_add((Vec::load(x + c) - mean) * factor, Vec::load(a.weight + c), Vec::load(a.bias + c));
  }
};

template <class Operand>
void norm(const Norm& a) {
  for (int row = a.begin; row < smaller(a.end, a.rows); row++) {
    float* x = a.hidden + (ptrdiff_t)row * a.stride;
    if (a.weight) {
      const NormedRow normed(a, x);
      if (a.room) x = a.room;
      for (int c = 0; c < whole_groups(a.columns); c += Vec::lanes) normed.at(c).store(x + c);
    }
    Operand::store(a.operand, a.rows, row, a.columns, {x, kGroup});
  }
}

// `sum` is room for whole_groups(columns) floats.
void norm_mean(const Norm& a, float* sum, float* out) {
  const int last = smaller(a.end, a.rows);
  for (int c = 0; c < whole_groups(a.columns); c++) sum[c] = 0;
  for (int row = a.begin; row < last; row++) {
    const NormedRow normed(a, a.hidden + (ptrdiff_t)row * a.stride);
    for (int c = 0; c < whole_groups(a.columns); c += Vec::lanes) (Vec::load(sum + c) + normed.at(c)).store(sum + c);
  }
  for (int c = 0; c < a.columns; c++) out[c] = sum[c] / (last - a.begin);
}

// `Heads` is how a table stores heads: load and store so many columns of a row, which lie together.
template <class Heads>
void norm_heads(const NormHeads& a) {
  const int columns = a.num_heads * a.size;
  for (int row = a.begin; row < smaller(a.end, a.rows); row++)
    for (int part = 0; part < 2; part++) {
      // Heads end to end in the room, without what is stored behind each: the next one overwrites it.
      const auto each = [&](auto visit) {
        for (int head = 0; head < a.num_heads; head++)
          for (int c = 0; c < a.size; c += Heads::kColumns)
            visit((part * a.num_heads + head) * a.head_size + c, a.room + head * a.size + c, a.size - c);
      };
      for (int c = 0; c < kGroup; c++) a.room[whole_groups(columns) - kGroup + c] = 0;
      each([&](int column, float* at, int) { Heads::load(a, row, column, at); });
      const Norm norm{a.room, 0, 1, columns, a.weight[part], a.bias[part], a.eps, nullptr};
      const NormedRow normed(norm, a.room);
      for (int c = 0; c < whole_groups(columns); c += Vec::lanes) normed.at(c).store(a.room + c);
      each([&](int column, float* at, int left) { Heads::store(a, row, column, at, left); });
    }
}

inline Vec load_as(Dtype dtype, const void* data, ptrdiff_t at) {
  switch (dtype) {
    case Dtype::f16: return Vec::load_f16((const uint16_t*)data + at);
    case Dtype::bf16: return Vec::load_bf16((const uint16_t*)data + at);
    default: return Vec::load((const float*)data + at);
  }
}

inline float one_float(Dtype dtype, const void* data, ptrdiff_t at) {
  if (dtype == Dtype::f32) return ((const float*)data)[at];
  const uint16_t lanes[kGroup] = {((const uint16_t*)data)[at]};
  float wide[Vec::lanes];  // not sum(), which turns -0 into 0
  (dtype == Dtype::f16 ? Vec::load_f16(lanes) : Vec::load_bf16(lanes)).store(wide);
  return wide[0];
}

void to_float(const void* data, Dtype dtype, size_t count, float* out) {
  size_t i = 0;
  for (; i + Vec::lanes <= count; i += Vec::lanes) load_as(dtype, data, i).store(out + i);
  for (; i < count; i++) out[i] = one_float(dtype, data, i);
}

inline void add_row(const Table& table, ptrdiff_t row, int columns, float* out) {
  const ptrdiff_t at = row * columns;
  int c = 0;
  for (; c + Vec::lanes <= columns; c += Vec::lanes)
    (Vec::load(out + c) + load_as(table.dtype, table.data, at + c)).store(out + c);
  for (; c < columns; c++) out[c] += one_float(table.dtype, table.data, at + c);
}

// A table is larger than any cache and its rows are read in no order, so the next one is asked for early.
inline void prefetch_row(const Table& table, ptrdiff_t row, int columns) {
  const ptrdiff_t bytes = columns * (table.dtype == Dtype::f32 ? sizeof(float) : sizeof(uint16_t));
  for (ptrdiff_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char*)table.data + row * bytes + at);
}

// out += what the tables have for one token.
inline void add_token(const Embed& a, int row, float* out) {
  if (row + 1 < a.rows) prefetch_row(a.word, a.ids[row + 1], a.columns);
  add_row(a.word, a.ids[row], a.columns, out);
  if (a.token_type.data) add_row(a.token_type, a.token_types[row], a.columns, out);
  if (a.position.data) add_row(a.position, a.positions[row], a.columns, out);
}

void embed(const Embed& a) {
  for (int row = 0; row < a.rows; row++) {
    float* out = a.hidden + (ptrdiff_t)row * a.stride;
    for (int c = 0; c < a.stride; c++) out[c] = 0;
    add_token(a, row, out);
  }
}

void embed_mean(const Embed& a) {
  for (int c = 0; c < a.columns; c++) a.hidden[c] = 0;
  for (int row = 0; row < a.rows; row++) add_token(a, row, a.hidden);
  for (int c = 0; c < a.columns && a.rows; c++) a.hidden[c] /= a.rows;
}

