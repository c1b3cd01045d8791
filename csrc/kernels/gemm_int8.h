// Products in int8, written once over Dot: sums exact in 32 bits, results float32.
//
// x * w = (row's scale * column's scale) * sum(q * p), q and p whole numbers in [-127, 127]. Where the instruction wants
// q without a sign, an operand holds q + Dot::offset, and each column's sum starts at -offset * (sum of its p).

constexpr int kInt8Panel = Vec::lanes * Vec::tile_vecs;

// A row's numbers in one cache line.
constexpr int kDotGroup = 64 / sizeof(Dot::Number);

// An operand (rows, columns): [group of columns][row][a cache line of Dot::Number], then the rows' scales.
struct Int8Operand {
  static ptrdiff_t numbers_bytes(int rows, int columns) {
    return (ptrdiff_t)(columns + kDotGroup - 1) / kDotGroup * rows * 64;
  }
  static size_t bytes(int rows, int columns) { return numbers_bytes(rows, columns) + rows * sizeof(float); }
  static Dot::Number* at(void* operand, int rows, int row, int column) {
    return (Dot::Number*)operand + ((ptrdiff_t)column / kDotGroup * rows + row) * kDotGroup + column % kDotGroup;
  }
  static float* scales(void* operand, int rows, int columns) {
    return (float*)((char*)operand + numbers_bytes(rows, columns));
  }

  static void store(void* operand, int rows, int row, int columns, const GroupedRow& from) {
    const float scale = row_scale(from, columns);
    scales(operand, rows, columns)[row] = scale;
    const Vec factor = Vec::all(factor_of(scale));
    for (int c = 0; c < whole_groups(columns); c += Vec::lanes)
      Dot::store(clamp(Vec::load(from.at(c)) * factor, -kInt8Largest, kInt8Largest), at(operand, rows, row, c));
  }
};

inline int whole_dots(int depth) { return (depth + Dot::depth - 1) / Dot::depth * Dot::depth; }

// A packed panel: [depth / Dot::depth][column][Dot::depth] of int8, the columns' scales, and where their sums start.
inline ptrdiff_t int8_panel_bytes(int depth) {
  return (ptrdiff_t)kInt8Panel * (whole_dots(depth) + sizeof(float) + sizeof(int32_t));
}

size_t int8_weight_bytes(int columns, int depth) { return whole_panels(columns) / kInt8Panel * int8_panel_bytes(depth); }

inline void pack_int8_panel(const float* weight, int columns, int depth, int8_t* out) {
  float* scales = (float*)(out + (ptrdiff_t)kInt8Panel * whole_dots(depth));
  int32_t* starts = (int32_t*)(scales + kInt8Panel);
  for (int column = 0; column < kInt8Panel; column++) {
    const float* from = weight + (ptrdiff_t)column * depth;
    const int count = column < columns ? depth : 0;
    const float scale = column_scale(from, count), factor = factor_of(scale);
    int32_t sum = 0;
    for (int k = 0; k < whole_dots(depth); k++) {
      const int8_t p = k < count ? to_int8(from[k], factor) : 0;
      out[(ptrdiff_t)(k / Dot::depth * kInt8Panel + column) * Dot::depth + k % Dot::depth] = p;
      sum += p;
    }
    scales[column] = scale;
    starts[column] = -Dot::offset * sum;
  }
}

void pack_int8_weight(const float* weight, int columns, int depth, void* packed) {
  int8_t* out = (int8_t*)packed;
  for (int column = 0; column < columns; column += kInt8Panel, out += int8_panel_bytes(depth))
    pack_int8_panel(weight + (ptrdiff_t)column * depth, smaller(kInt8Panel, columns - column), depth, out);
}

// sum[r][v] += x[r] * the panel's columns, for `depth` numbers.
template <int R>
inline __attribute__((always_inline)) void multiply_int8(const Dot::Number* x, ptrdiff_t group_stride, const int8_t* panel,
                                                         int depth, Dot (&sum)[R][Vec::tile_vecs]) {
  auto one = [&](int k) __attribute__((always_inline)) {
    Dot columns[Vec::tile_vecs];
    for (int v = 0; v < Vec::tile_vecs; v++) columns[v] = Dot::load_weights(panel + v * Vec::lanes * Dot::depth);
    panel += kInt8Panel * Dot::depth;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const Dot value = Dot::repeat(x + r * kDotGroup + k);
#pragma GCC unroll 4
      for (int v = 0; v < Vec::tile_vecs; v++) sum[r][v] = dot(sum[r][v], value, columns[v]);
    }
  };
  for (; depth >= kDotGroup; depth -= kDotGroup, x += group_stride) {
#pragma GCC unroll 4
    for (int k = 0; k < kDotGroup; k += Dot::depth) one(k);
  }
  for (int k = 0; k < depth; k += Dot::depth) one(k);
}

template <int R>
void int8_tile(const Linear& a, const int8_t* panel, int row, int column) {
  const float* scales = (const float*)(panel + (ptrdiff_t)kInt8Panel * whole_dots(a.depth));
  const int32_t* starts = (const int32_t*)(scales + kInt8Panel);
  Dot sum[R][Vec::tile_vecs];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < Vec::tile_vecs; v++) sum[r][v] = Dot::load(starts + v * Vec::lanes);
  multiply_int8<R>(Int8Operand::at((void*)a.x, a.rows, row, 0), (ptrdiff_t)a.rows * kDotGroup, panel, a.depth, sum);
  const float* row_scales = Int8Operand::scales((void*)a.x, a.rows, a.depth) + row;
  Vec result[R][Vec::tile_vecs];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < Vec::tile_vecs; v++)
      result[r][v] = sum[r][v].to_float() * (Vec::all(row_scales[r]) * Vec::load(scales + v * Vec::lanes));
  finish_tile<R>(a, row, column, result);
}

void linear_int8(const Linear& a) {
  const int block = max_rows(a.depth) * 4;
  for (int begin = 0; begin < a.rows; begin += block)
    for (int column = a.begin; column < smaller(a.end, a.columns); column += kInt8Panel) {
      const int8_t* panel = (const int8_t*)a.weight + column / kInt8Panel * int8_panel_bytes(a.depth);
      for_tiles(smaller(a.rows - begin, block), [&](int row, int size) {
        with_rows(size, [&]<int R>() { int8_tile<R>(a, panel, begin + row, column); });
      });
    }
}
