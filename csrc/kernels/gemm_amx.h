// Products by tiles: 32 x 32 sums at once, and while one block's products run, what becomes of the block before.
//
// A panel's weights stay in the first-level cache while the operand's rows stream by. What is done with a block's sums
// (bias, activation, conversion) takes about as long as its products, so it is done row by row between the next block's.
// Every sum adds its products along the depth, so a row's result does not depend on its place.

// x -> activation(x), as exact as an operand of kParts parts can hold.
template <Activation activation, int kParts>
struct Activate {
  Vec operator()(Vec x) const {
    switch (activation) {
      case Activation::none: return x;
      case Activation::gelu: return gelu(x);
      case Activation::gelu_tanh: return gelu_tanh(x);
      case Activation::gelu_fast: return gelu_fast(x);
      case Activation::quick_gelu: return quick_gelu(x);
      case Activation::relu: return relu(x);
      case Activation::silu: return silu(x);
      case Activation::tanh: return tanh(x);
    }
  }
};

// GELU without division or e^x: x / 2 + |x| * q(|x|), where q is erf(. / sqrt 2) / 2 in 16 pieces, polynomials fitted for
// least largest error of the result; the last ends at 1/2. Picking a piece's numbers is a permutation, which leaves the
// arithmetic units to the next block's products.
inline __m512i piece_of(Vec whole) { return _mm512_castps_si512(whole.v); }
inline Vec pick(const float (&table)[16], __m512i piece) { return {_mm512_permutexvar_ps(piece, Vec::load(table).v)}; }
constexpr float kWhole = 0x1.8p23f;  // adding it leaves the nearest whole number in the last bits

// To 4e-5: quadratic in |x|.
alignas(64) constexpr float kGeluPieces[3][16] = {
    {-1.81980922e-05f, -0.00134189473f, -0.00880769454f, -0.0190360229f,
     -0.0183112957f, 0.00863878895f, 0.0679949522f, 0.152572915f,
     0.246129289f, 0.331868947f, 0.399111778f, 0.445106953f,
     0.472885907f, 0.487825632f, 0.495024562f, 0.493700862f},
    {0.400101393f, 0.414523125f, 0.449077398f, 0.478379935f,
     0.477791399f, 0.436536163f, 0.361324251f, 0.27027294f,
     0.182807639f, 0.11199601f, 0.0622682609f, 0.0314769298f,
     0.0144911064f, 0.00608447008f, 0.00233290112f, 0.00285315933f},
    {-0.0165668949f, -0.0566344112f, -0.0969524682f, -0.117991582f,
     -0.118126459f, -0.102325849f, -0.0784843564f, -0.0539674573f,
     -0.0335173644f, -0.0188926198f, -0.00969689433f, -0.00454271212f,
     -0.00194579246f, -0.000763047428f, -0.00027423774f, -0.000323052867f}};
template <>
struct Activate<Activation::gelu, 1> {
  Vec operator()(Vec x) const {
    constexpr float kPieces = 3.5f, kEnd = 4.375f;  // pieces in 1; |x| from where on q is 1/2
    const Vec size = {_mm512_abs_ps(x.v)}, t = min(Vec::all(kEnd), size);
    const __m512i piece = piece_of(multiply_add(t, Vec::all(kPieces), Vec::all(kWhole)));
    Vec q = multiply_add(pick(kGeluPieces[2], piece), t, pick(kGeluPieces[1], piece));
    q = multiply_add(q, t, pick(kGeluPieces[0], piece));
    return multiply_add(size, q, Vec::all(0.5f) * x);
  }
};

// To 4e-7: of the fourth degree in the distance from the piece's middle.
alignas(64) constexpr float kFineGeluPieces[5][16] = {
    {1.32752831e-08f, 0.141935244f, 0.266470551f, 0.36234355f,
     0.427102417f, 0.465481818f, 0.485438526f, 0.494543225f,
     0.498187602f, 0.499467432f, 0.499861747f, 0.49996832f,
     0.499993593f, 0.499998868f, 0.499999821f, 0.49999997f},
    {0.398940086f, 0.373416901f, 0.306235284f, 0.220034197f,
     0.138515219f, 0.076396808f, 0.0369165428f, 0.0156290345f,
     0.00579702249f, 0.00188380363f, 0.000536314445f, 0.000133767753f,
     2.92297791e-05f, 5.59545515e-06f, 9.3836934e-07f, -3.23048141e-07f},
    {7.19338059e-05f, -0.0679027438f, -0.111356206f, -0.12001393f,
     -0.100735016f, -0.0694505647f, -0.0402730107f, -0.0198923871f,
     -0.00843277667f, -0.00308302534f, -0.000975319359f, -0.00026761202f,
     -6.3798303e-05f, -1.3232122e-05f, -2.39006454e-06f, 1.33046497e-05f},
    {-0.0674021915f, -0.0537331253f, -0.0240323618f, 0.00676664058f,
     0.0255091675f, 0.0292035304f, 0.0230990294f, 0.0143054584f,
     0.0072582271f, 0.00308397529f, 0.00111111847f, 0.000342123705f,
     9.05050183e-05f, 2.0646914e-05f, 4.07314337e-06f, 0.000252547499f},
    {0.00499686552f, 0.0164103191f, 0.0227707382f, 0.0179394521f,
     0.00738201803f, -0.00172478799f, -0.00585044408f, -0.00573744392f,
     -0.00383488182f, -0.00198795879f, -0.000837975182f, -0.000293991703f,
     -8.70069416e-05f, -2.19083504e-05f, -4.72113197e-06f, 0.000926401583f}};
template <>
struct Activate<Activation::gelu, 2> {
  Vec operator()(Vec x) const {
    constexpr float kPieces = 2.75f, kEnd = 5.5f;
    const Vec size = {_mm512_abs_ps(x.v)}, t = min(Vec::all(kEnd), size);
    const Vec whole = multiply_add(t, Vec::all(kPieces), Vec::all(kWhole));
    const __m512i piece = piece_of(whole);
    const Vec d = multiply_add(whole - Vec::all(kWhole), Vec::all(-1 / kPieces), t);
    Vec q = pick(kFineGeluPieces[4], piece);
    for (int i = 3; i >= 0; i--) q = multiply_add(q, d, pick(kFineGeluPieces[i], piece));
    return multiply_add(size, q, Vec::all(0.5f) * x);
  }
};

// Where a row of 32 finished sums goes: from at(a, row, column) on, step(a) bytes to the next row. `wide` tells whether the
// second 16 are columns of the product.
template <class Format, Activation activation>
struct IntoOperand {
  static constexpr Activation kActivation = activation;
  static char* at(const Linear& a, int row, int column) { return Format::at(a.out, a.columns, row, column / Format::kStep); }
  static ptrdiff_t step(const Linear&) { return kLine; }
  static void write(const Linear&, char* to, Vec first, Vec second, bool) {
    store_parts<Format::kParts>(to, kBlock * kLine, first, second);
  }
};
template <int kParts>
struct IntoHeads {
  static constexpr Activation kActivation = Activation::none;
  static char* at(const Linear& a, int row, int column) {
    return TileHeads<kParts>::at(a.out, a.rows, row, column / kBlock);
  }
  static ptrdiff_t step(const Linear&) { return kParts * kLine; }
  static void write(const Linear&, char* to, Vec first, Vec second, bool) { store_parts<kParts>(to, kLine, first, second); }
};
template <Activation activation>
struct IntoFloats {
  static constexpr Activation kActivation = activation;
  static char* at(const Linear& a, int row, int column) { return (char*)floats_at(a.out, a.rows, row, column / kGroup); }
  static ptrdiff_t step(const Linear&) { return kLine; }
  static void write(const Linear& a, char* to, Vec first, Vec second, bool wide) {
    first.store((float*)to);
    if (wide) second.store((float*)(to + (ptrdiff_t)a.rows * kLine));
  }
};
struct IntoHidden {
  static constexpr Activation kActivation = Activation::none;
  static char* at(const Linear& a, int row, int column) { return (char*)((float*)a.out + (ptrdiff_t)row * a.stride + column); }
  static ptrdiff_t step(const Linear& a) { return a.stride * (ptrdiff_t)sizeof(float); }
  static void write(const Linear&, char* to, Vec first, Vec second, bool wide) {
    float* out = (float*)to;
    (Vec::load(out) + first).store(out);
    if (wide) (Vec::load(out + kGroup) + second).store(out + kGroup);
  }
};

// A block's sums, and what is still to be done with them: bias, activation, and where to.
template <class Format, class Row>
struct Sums {
  Activate<Row::kActivation, Format::kParts> activate;
  const float *sums, *bias, *scales, *row_scale;  // the scales are int8's: the columns', and the next row's
  char* to;
  bool wide;
  int rows = 0;  // left

  void finish(const Linear& a, int count) {
    const ptrdiff_t step = Row::step(a);
    count = smaller(count, rows);
    rows -= count;
    for (; count > 0; count--, sums += kBlock, row_scale++, to += step)
      Row::write(a, to, activate(value(0)), activate(value(kGroup)), wide);
  }

 private:
  Vec value(int column) const {
    const Vec offset = Vec::load(bias + column);
    if constexpr (Format::kStep != Int8Format::kStep) return Vec::load(sums + column) + offset;
    const Vec whole = {_mm512_cvtepi32_ps(load_line(sums + column))};
    return whole * (Vec::all(*row_scale) * Vec::load(scales + column)) + offset;
  }
};

// Panels of more bytes don't stay in the first-level cache beside what passes through it.
constexpr ptrdiff_t kMostNearBytes = 36 << 10;

template <int T, bool kNear>
inline void load_weights(const char* w) {
  if constexpr (kNear)
    tile_load<T>(w);
  else
    tile_stream<T>(w);
}

// One step of a block: sums (tiles 0 to 3) += x (tiles 4 and 5) * w (tiles 6 and 7). With kTall the block has more than 16
// rows.
template <class Format, bool kTall, bool kNear>
inline void multiply_step(const char* x, const char* w) {
  if constexpr (Format::kParts == 2) {
    constexpr int kLow = 2 * kTileBytes;
    load_weights<6, kNear>(w);  // the small products first
    tile_stream<4>(x + kLow);
    tile_dot_bf16<0, 4, 6>();
    load_weights<7, kNear>(w + kTileBytes);
    tile_dot_bf16<1, 4, 7>();
    if constexpr (kTall) {
      tile_stream<5>(x + kLow + kTileBytes);
      tile_dot_bf16<2, 5, 6>();
      tile_dot_bf16<3, 5, 7>();
    }
    tile_stream<4>(x);
    tile_dot_bf16<0, 4, 6>();
    tile_dot_bf16<1, 4, 7>();
    if constexpr (kTall) {
      tile_stream<5>(x + kTileBytes);
      tile_dot_bf16<2, 5, 6>();
      tile_dot_bf16<3, 5, 7>();
    }
    load_weights<6, kNear>(w + kLow);
    tile_dot_bf16<0, 4, 6>();
    if constexpr (kTall) tile_dot_bf16<2, 5, 6>();
    load_weights<7, kNear>(w + kLow + kTileBytes);
    tile_dot_bf16<1, 4, 7>();
    if constexpr (kTall) tile_dot_bf16<3, 5, 7>();
  } else {
    const auto dot = []<int Sum, int X, int W>() {
      if constexpr (Format::kStep == Int8Format::kStep)
        tile_dot_int8<Sum, X, W>();
      else
        tile_dot_bf16<Sum, X, W>();
    };
    load_weights<6, kNear>(w);
    tile_stream<4>(x);
    dot.template operator()<0, 4, 6>();
    load_weights<7, kNear>(w + kTileBytes);
    dot.template operator()<1, 4, 7>();
    if constexpr (kTall) {
      tile_stream<5>(x + kTileBytes);
      dot.template operator()<2, 5, 6>();
      dot.template operator()<3, 5, 7>();
    }
  }
}

// Multiplies one block, and calls between() after each step. With kAdd the products are added to the sums, whose rows lie
// `stride` floats apart.
template <class Format, bool kTall, bool kNear, bool kAdd, class Between>
inline __attribute__((always_inline)) void multiply_block(const char* x, const char* w, int steps, float* sums,
                                                          ptrdiff_t stride, Between between) {
  const ptrdiff_t bytes = stride * (ptrdiff_t)sizeof(float);
  float* const lower = sums + kTileRows * stride;
  if constexpr (kAdd) {
    tile_stream<0>(sums, bytes);
    tile_stream<1>(sums + kTileRows, bytes);
  } else {
    tile_zero<0>();
    tile_zero<1>();
  }
  if constexpr (kAdd && kTall) {
    tile_stream<2>(lower, bytes);
    tile_stream<3>(lower + kTileRows, bytes);
  } else if constexpr (kTall) {
    tile_zero<2>();
    tile_zero<3>();
  }
  for (int step = 0; step < steps; step++, x += Format::step_bytes, w += Format::step_bytes) {
    multiply_step<Format, kTall, kNear>(x, w);
    between();
  }
  tile_store<0>(sums, bytes);
  tile_store<1>(sums + kTileRows, bytes);
  if constexpr (kTall) {
    tile_store<2>(lower, bytes);
    tile_store<3>(lower + kTileRows, bytes);
  }
}

// Row is where the results go.
template <class Format, class Row, bool kNear>
void multiply_near(const Linear& given) {
  const Linear a = given;  // a copy that tiles' stores can't be meant to change
  alignas(64) float room[2][kBlock * kBlock], bias[2][kBlock];
  const int steps = Format::steps(a.depth), row_blocks = blocks(a.rows, kBlock);
  const ptrdiff_t panel_bytes = Format::panel_bytes(a.depth);
  const int rows_a_step = blocks(kBlock, steps), fetch_bytes = (int)(panel_bytes / (steps * row_blocks));
  const int last = smaller(a.end, a.columns);
  const float* row_scales = nullptr;
  if constexpr (Format::kStep == Int8Format::kStep) row_scales = Int8Format::scales(a.x, a.rows, a.depth);
  Sums<Format, Row> before;
  int turn = 0;
  for (int column = a.begin; column < last; column += kBlock) {
    const char* panel = (const char*)a.weight + column / kBlock * panel_bytes;
    const char* next = panel + panel_bytes;
    const bool wide = column + kGroup < a.columns;
    float* const offset = bias[column / kBlock % 2];
    (a.bias ? Vec::load(a.bias + column) : Vec::zero()).store(offset);
    (a.bias && wide ? Vec::load(a.bias + column + kGroup) : Vec::zero()).store(offset + kGroup);
    for (int row = 0; row < a.rows; row += kBlock, turn ^= 1) {
      const char* x = Format::at(a.x, a.depth, row, 0);
      const auto between = [&]() __attribute__((always_inline)) {
        before.finish(a, rows_a_step);
        for (int i = 0; i < fetch_bytes; i += kLine) __builtin_prefetch(next + i, 0, 2);
        next += fetch_bytes;
      };
      const int rows = smaller(kBlock, a.rows - row);
      if (rows > kTileRows)
        multiply_block<Format, true, kNear, false>(x, panel, steps, room[turn], kBlock, between);
      else
        multiply_block<Format, false, kNear, false>(x, panel, steps, room[turn], kBlock, between);
      before.finish(a, kBlock);
      before.sums = room[turn];
      before.bias = offset;
      before.scales = (const float*)(panel + steps * Format::step_bytes);
      before.row_scale = row_scales + row;
      before.to = Row::at(a, row, column);
      before.wide = wide;
      before.rows = rows;
    }
  }
  before.finish(a, kBlock);
}

template <class Format, class Row>
void multiply_all(const Linear& a) {
  if (Format::steps(a.depth) * Format::step_bytes <= kMostNearBytes)
    multiply_near<Format, Row, true>(a);
  else
    multiply_near<Format, Row, false>(a);
}

// hidden += products, without a bias: tiles begin with hidden's rows and end up in their place. Past the last row is room that
// hidden has; past the last column there may be none, so the columns must be whole blocks.
template <class Format, bool kNear>
void add_near(const Linear& a) {
  const int steps = Format::steps(a.depth), row_blocks = blocks(a.rows, kBlock);
  const ptrdiff_t panel_bytes = Format::panel_bytes(a.depth);
  const int fetch_bytes = (int)(panel_bytes / (steps * row_blocks));
  for (int column = a.begin; column < smaller(a.end, a.columns); column += kBlock) {
    const char* panel = (const char*)a.weight + column / kBlock * panel_bytes;
    const char* next = panel + panel_bytes;
    const auto fetch = [&]() __attribute__((always_inline)) {
      for (int i = 0; i < fetch_bytes; i += kLine) __builtin_prefetch(next + i, 0, 2);
      next += fetch_bytes;
    };
    for (int row = 0; row < a.rows; row += kBlock) {
      const char* x = Format::at(a.x, a.depth, row, 0);
      float* const hidden = (float*)a.out + (ptrdiff_t)row * a.stride + column;
      if (a.rows - row > kTileRows)
        multiply_block<Format, true, kNear, true>(x, panel, steps, hidden, a.stride, fetch);
      else
        multiply_block<Format, false, kNear, true>(x, panel, steps, hidden, a.stride, fetch);
    }
  }
}

// A block of two parts has three times the products, which hide the additions of finished sums better than this.
template <class Format>
void add_to_hidden(const Linear& a) {
  if (a.bias || a.columns % kBlock || Format::kParts == 2) return multiply_all<Format, IntoHidden>(a);
  if (Format::steps(a.depth) * Format::step_bytes <= kMostNearBytes)
    add_near<Format, true>(a);
  else
    add_near<Format, false>(a);
}

// Calls function.template operator()<activation>().
template <class Function>
inline void with_activation(Activation activation, Function function) {
  switch (activation) {
    case Activation::none: return function.template operator()<Activation::none>();
    case Activation::gelu: return function.template operator()<Activation::gelu>();
    case Activation::gelu_tanh: return function.template operator()<Activation::gelu_tanh>();
    case Activation::gelu_fast: return function.template operator()<Activation::gelu_fast>();
    case Activation::quick_gelu: return function.template operator()<Activation::quick_gelu>();
    case Activation::relu: return function.template operator()<Activation::relu>();
    case Activation::silu: return function.template operator()<Activation::silu>();
    case Activation::tanh: return function.template operator()<Activation::tanh>();
  }
}

template <int kParts>
void linear_bf16(const Linear& a) {
  using Format = Bf16Format<kParts>;
  switch (a.into) {
    case Into::floats: return multiply_all<Format, IntoFloats<Activation::none>>(a);
    case Into::heads: return multiply_all<Format, IntoHeads<kParts>>(a);
    case Into::hidden: return add_to_hidden<Format>(a);
    case Into::inner:
      return with_activation(a.activation, [&]<Activation activation>() {
        multiply_all<Format, IntoOperand<Format, activation>>(a);
      });
  }
}

void linear_tiles_int8(const Linear& a) {
  switch (a.into) {
    case Into::floats: return multiply_all<Int8Format, IntoFloats<Activation::none>>(a);
    case Into::heads: return multiply_all<Int8Format, IntoHeads<1>>(a);
    case Into::hidden: return multiply_all<Int8Format, IntoHidden>(a);
    case Into::inner:  // floats: a row's scale is known only when the whole row is
      return with_activation(a.activation, [&]<Activation activation>() {
        multiply_all<Int8Format, IntoFloats<activation>>(a);
      });
  }
}
