// Products in float32, written once over Vec.
//
// Operands are stored [group of 16 columns][row][16], so a tile's rows lie in consecutive cache lines whatever
// row it starts at; weights are packed [panel of Vec::tile_vecs vectors][depth][panel's columns].
// A tile of up to Vec::tile_rows rows x one panel keeps its sums in registers over the whole depth. Every sum
// adds its products in the order of depth, in every tile shape, so a row's result does not depend on its tile.

constexpr int kPanel = Vec::lanes * Vec::tile_vecs;
static_assert(kPanel % kGroup == 0);

// sum[r][v] += x[r][k] * b[v][k] for k < depth: x is operand storage, b[v] starts at a vector and steps `step`.
template <int R, int V>
inline __attribute__((always_inline)) void multiply(const float* x, ptrdiff_t group_stride, const float* const (&b)[V],
                                                    ptrdiff_t step, int depth, Vec (&sum)[R][V]) {
  const float* at[V];
  for (int v = 0; v < V; v++) at[v] = b[v];
  auto one = [&](int k) __attribute__((always_inline)) {
    Vec column[V];
    for (int v = 0; v < V; v++) {
      column[v] = Vec::load(at[v]);
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

size_t weight_bytes(int columns, int depth) {
  return sizeof(float) * depth * ((columns + kPanel - 1) / kPanel * kPanel);
}

void pack_weight(const float* weight, int columns, int depth, void* packed) {
  float* out = (float*)packed;
  for (int panel = 0; panel < columns; panel += kPanel)
    for (int k = 0; k < depth; k++)
      for (int c = 0; c < kPanel; c++) *out++ = panel + c < columns ? weight[(ptrdiff_t)(panel + c) * depth + k] : 0;
}

template <int R>
void linear_tile(const Linear& a, int row, int panel) {
  Vec sum[R][Vec::tile_vecs];
  const int column = panel * kPanel;
  const float* weight = (const float*)a.weight + (ptrdiff_t)column * a.depth;
  const float* b[Vec::tile_vecs];
  for (int v = 0; v < Vec::tile_vecs; v++) {
    b[v] = weight + v * Vec::lanes;
    for (int r = 0; r < R; r++) sum[r][v] = Vec::zero();
  }
  multiply<R>(operand_at((void*)a.x, a.rows, row, 0), (ptrdiff_t)a.rows * kGroup, b, kPanel, a.depth, sum);

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
      float* out = operand_at(a.out, a.rows, row, c / kGroup);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) (sum[r][v] + bias).store(out + r * kGroup + c % kGroup);
      if ((c + Vec::lanes) % kGroup == 0) activate(a.activation, out, R * kGroup);
    }
  }
}

// Rows of an operand of this depth that take half of a second-level cache of 1 MiB.
inline int max_rows(int depth) { return (1 << 17) / depth > Vec::tile_rows ? (1 << 17) / depth : Vec::tile_rows; }

// Rows in blocks whose operand stays in the second-level cache while the weight's panels pass by.
void linear(const Linear& a) {
  const int panels = (a.columns + kPanel - 1) / kPanel;
  const int block = max_rows(a.depth);
  for (int begin = 0; begin < a.rows; begin += block) {
    const int rows = a.rows - begin < block ? a.rows - begin : block;
    for (int panel = 0; panel < panels; panel++)
      for_tiles(rows, [&](int row, int size) {
        with_rows(size, [&]<int R>() { linear_tile<R>(a, begin + row, panel); });
      });
  }
}
