// Products in float32, written once over Vec; weights are float32, or bfloat16 that is widened before it is used.
//
// Operands are floats, [group of 16 columns][row][16], so a tile's rows lie in consecutive cache lines whatever row it
// starts at; weights are packed [panel of Vec::tile_vecs vectors][depth][panel's columns].
// A tile of up to Vec::tile_rows rows x one panel keeps its sums in registers over the whole depth. Every sum
// adds its products in the order of depth, in every tile shape, so a row's result does not depend on its tile.

constexpr int kPanel = Vec::lanes * Vec::tile_vecs;
static_assert(kPanel % kGroup == 0);

inline Vec load_number(const float* p) { return Vec::load(p); }
inline Vec load_number(const uint16_t* p) { return Vec::load_bf16(p); }

// sum[r][v] += x[r][k] * b[v][k] for k < depth: x lies as in floats, b[v] starts at a vector and steps `step`. With
// `Fetch` what lies as far behind as b is long comes into the second-level cache meanwhile.
template <int R, int V, bool Fetch = false, class Number>
inline __attribute__((always_inline)) void multiply(const float* x, ptrdiff_t group_stride, const Number* const (&b)[V],
                                                    ptrdiff_t step, int depth, Vec (&sum)[R][V]) {
  const Number* at[V];
  for (int v = 0; v < V; v++) at[v] = b[v];
  [[maybe_unused]] const ptrdiff_t all = depth;
  auto one = [&](int k) __attribute__((always_inline)) {
    Vec column[V];
    for (int v = 0; v < V; v++) {
      column[v] = load_number(at[v]);
      if constexpr (Fetch) __builtin_prefetch(at[v] + step * all, 0, 2);
      at[v] += step;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      Vec value = Vec::all(x[r * kGroup + k]);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sum[r][v] = multiply_add(value, column[v], sum[r][v]);
    }
  };
  for (; depth >= kGroup; depth -= kGroup, x += group_stride) {
#pragma GCC unroll 4
    for (int k = 0; k < kGroup; k++) one(k);
  }
  for (int k = 0; k < depth; k++) one(k);
}

// Cuts `rows` into near-equal tiles of at most Vec::tile_rows and calls tile(first row, rows of the tile).
template <class Tile>
inline void for_tiles(int rows, Tile tile) {
  const int tiles = (rows + Vec::tile_rows - 1) / Vec::tile_rows;
  for (int i = 0, row = 0; i < tiles; i++) {
    int size = rows / tiles + (i < rows % tiles);
    tile(row, size);
    row += size;
  }
}

// Calls function.template operator()<R>() for R == rows, 1 <= rows <= Vec::tile_rows.
template <int R = Vec::tile_rows, class Function>
inline void with_rows(int rows, Function function) {
  if constexpr (R > 1) {
    if (rows < R) return with_rows<R - 1>(rows, function);
  }
  function.template operator()<R>();
}

inline int whole_panels(int columns) { return (columns + kPanel - 1) / kPanel * kPanel; }

// bfloat16 nearest to x, ties to even; what rounds past the largest becomes infinite, and a NaN stays one.
inline uint16_t to_bf16(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

// How weights are stored: `Number`, made by from(float).
struct FloatWeight {
  typedef float Number;
  static Number from(float x) { return x; }
};
struct Bf16Weight {
  typedef uint16_t Number;
  static Number from(float x) { return to_bf16(x); }
};

template <class Weight>
size_t weight_bytes(int columns, int depth) {
  return sizeof(typename Weight::Number) * depth * whole_panels(columns);
}

template <class Weight>
void pack_weight(const float* weight, int columns, int depth, void* packed) {
  auto* out = (typename Weight::Number*)packed;
  for (int panel = 0; panel < columns; panel += kPanel)
    for (int k = 0; k < depth; k++)
      for (int c = 0; c < kPanel; c++)
        *out++ = Weight::from(panel + c < columns ? weight[(ptrdiff_t)(panel + c) * depth + k] : 0);
}

// A panel's numbers as float32, where they are or widened into `scratch`.
inline const float* wide_panel(const float* panel, int, void*) { return panel; }
inline const float* wide_panel(const uint16_t* panel, int depth, void* scratch) {
  float* out = (float*)scratch;
  for (ptrdiff_t i = 0; i < (ptrdiff_t)depth * kPanel; i += Vec::lanes) Vec::load_bf16(panel + i).store(out + i);
  return out;
}

template <class Weight>
size_t linear_scratch(int depth) {
  return sizeof(typename Weight::Number) == sizeof(float) ? 0 : sizeof(float) * depth * kPanel;
}

// A finished tile: sum + bias, activated and stored, or added to hidden.
template <int R>
void finish_tile(const Linear& a, int row, int column, const Vec (&sum)[R][Vec::tile_vecs]) {
  const int columns = whole_groups(a.columns);
#pragma GCC unroll 4
  for (int v = 0; v < Vec::tile_vecs; v++) {
    const int c = column + v * Vec::lanes;
    if (c >= columns) return;
    const Vec bias = a.bias ? Vec::load(a.bias + c) : Vec::zero();
    if (a.into == Into::hidden) {
      float* out = (float*)a.out + (ptrdiff_t)row * a.stride + c;
#pragma GCC unroll 16
      for (int r = 0; r < R; r++, out += a.stride) (Vec::load(out) + (sum[r][v] + bias)).store(out);
    } else {
      float* out = floats_at(a.out, a.rows, row, c / kGroup);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) (sum[r][v] + bias).store(out + r * kGroup + c % kGroup);
      if ((c + Vec::lanes) % kGroup == 0) activate(a.activation, out, R * kGroup);
    }
  }
}

template <int R, bool Fetch, class Number>
void linear_tile(const Linear& a, const Number* panel, int row, int column) {
  Vec sum[R][Vec::tile_vecs];
  const Number* b[Vec::tile_vecs];
  for (int v = 0; v < Vec::tile_vecs; v++) {
    b[v] = panel + v * Vec::lanes;
    for (int r = 0; r < R; r++) sum[r][v] = Vec::zero();
  }
  const float* x = floats_at((void*)a.x, a.rows, row, 0);
  multiply<R, Vec::tile_vecs, Fetch>(x, (ptrdiff_t)a.rows * kGroup, b, kPanel, a.depth, sum);
  finish_tile<R>(a, row, column, sum);
}

// Each of many tiles fetches its share of the next panel's bytes into the second-level cache.
inline void prefetch_share(const char* next, ptrdiff_t bytes, int row, int size, int rows) {
  const ptrdiff_t end = bytes * (row + size) / rows;
  for (ptrdiff_t at = bytes * row / rows / 64 * 64; at < end; at += 64) __builtin_prefetch(next + at, 0, 2);
}

// Rows of an operand of this depth that take half of a second-level cache of 1 MiB.
inline int max_rows(int depth) { return (1 << 17) / depth > Vec::tile_rows ? (1 << 17) / depth : Vec::tile_rows; }

// Rows for which reading weights takes as long as computing with them: these are read once and used as they are.
constexpr int kFewRows = 4 * Vec::tile_rows;

template <class Number>
void multiply_few(const Linear& a, const Number* panel, int column) {
  for_tiles(a.rows, [&](int row, int size) {
    with_rows(size, [&]<int R>() {
      if (row + size < a.rows) return linear_tile<R, false>(a, panel, row, column);
      linear_tile<R, true>(a, panel, row, column);
    });
  });
}

// Rows in blocks whose operand stays in the second-level cache while the weight's panels pass by.
template <class Weight>
void linear(const Linear& a) {
  const auto* weight = (const typename Weight::Number*)a.weight;
  const int block = a.rows <= kFewRows ? kFewRows : max_rows(a.depth);
  for (int begin = 0; begin < a.rows; begin += block) {
    const int rows = smaller(a.rows - begin, block);
    for (int column = a.begin; column < smaller(a.end, a.columns); column += kPanel) {
      const auto* panel = weight + (ptrdiff_t)column * a.depth;
      if (a.rows <= kFewRows) {
        multiply_few(a, panel, column);
        continue;
      }
      const float* wide = wide_panel(panel, a.depth, a.scratch);
      const ptrdiff_t bytes = weight_bytes<Weight>(kPanel, a.depth);
      for_tiles(rows, [&](int row, int size) {
        prefetch_share((const char*)panel + bytes, bytes, row, size, rows);
        with_rows(size, [&]<int R>() { linear_tile<R, false>(a, wide, begin + row, column); });
      });
    }
  }
}
