// What tiles read. A line is 64 bytes, a row of a tile: 32 bfloat16 or 64 int8, one after the other along the depth.
//
// An operand is [block of 32 rows][step along the depth][part][row][line], so both tiles of a block's step lie together.
// A packed panel of 32 columns is [step][part][2 tiles][line], where a tile's line holds, for each of 16 columns, the
// numbers that meet the same four bytes of an operand's row.
//
// float32 is two bfloat16 parts: x = high + low, to 2^-17 of x. A product drops low * low.

constexpr int kBlock = 2 * kTileRows;

inline int blocks(int count, int size) { return (count + size - 1) / size; }

inline __m512i load_line(const void* from) { return _mm512_loadu_si512(from); }
inline void store_line(void* to, __m512i line) { _mm512_storeu_si512(to, line); }

// 32 numbers as bfloat16, ties to even.
inline __m512i to_bf16(Vec first, Vec second) { return (__m512i)_mm512_cvtne2ps_pbh(second.v, first.v); }

inline Vec low_half(__m512i line) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(line)), 16))};
}
inline Vec high_half(__m512i line) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(line, 1)), 16))};
}

// Writes 32 numbers in parts that lie `distance` bytes apart.
template <int kParts>
inline void store_parts(void* to, ptrdiff_t distance, Vec first, Vec second) {
  const __m512i high = to_bf16(first, second);
  store_line(to, high);
  if constexpr (kParts == 2) store_line((char*)to + distance, to_bf16(first - low_half(high), second - high_half(high)));
}

// Turns 16 lines of 16 fours of bytes: line i's four j becomes line j's four i.
inline void transpose(__m512i (&x)[16]) {
  __m512i y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
    x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
  }
}

inline Vec load_first(const float* from, int count) {
  return {_mm512_maskz_loadu_ps(count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1, from)};
}

template <int parts>
struct Bf16Format {
  static constexpr int kParts = parts;
  static constexpr int kStep = 32;  // numbers of a line

  static constexpr ptrdiff_t step_bytes = (ptrdiff_t)kParts * kBlock * kLine;  // of an operand's block, or of a panel
  static int steps(int depth) { return blocks(depth, kStep); }
  static size_t panel_bytes(int depth) { return steps(depth) * step_bytes; }

  static size_t bytes(int rows, int columns) { return blocks(rows, kBlock) * steps(columns) * step_bytes; }
  static char* at(const void* operand, int columns, int row, int step) {
    return (char*)operand + ((ptrdiff_t)row / kBlock * steps(columns) + step) * step_bytes + row % kBlock * kLine;
  }
  static void store32(void* operand, int columns, int row, int column, Vec first, Vec second) {
    store_parts<kParts>(at(operand, columns, row, column / kStep), kBlock * kLine, first, second);
  }
  static void store(void* operand, int, int row, int columns, const GroupedRow& from) {
    for (int c = 0; c < columns; c += kStep)
      store32(operand, columns, row, c, Vec::load(from.at(c)),
              c + kGroup < columns ? Vec::load(from.at(c + kGroup)) : Vec::zero());
  }

  // One tile's columns of a panel, at most 16.
  static void pack_tile(const float* weight, int columns, int depth, int step, char* out) {
    __m512i line[kParts][16] = {};
    const int k = step * kStep;
    for (int column = 0; column < columns && column < 16; column++) {
      const float* from = weight + (ptrdiff_t)column * depth + k;
      const Vec first = load_first(from, depth - k), second = load_first(from + 16, depth - k - 16);
      line[0][column] = to_bf16(first, second);
      if constexpr (kParts == 2)
        line[1][column] = to_bf16(first - low_half(line[0][column]), second - high_half(line[0][column]));
    }
    for (int part = 0; part < kParts; part++) {
      transpose(line[part]);
      for (int i = 0; i < 16; i++) store_line(out + part * 2 * kTileBytes + i * kLine, line[part][i]);
    }
  }
  static void pack_panel(const float* weight, int columns, int depth, char* out) {
    for (int step = 0; step < steps(depth); step++)
      for (int tile = 0; tile < 2; tile++)
        pack_tile(weight + (ptrdiff_t)tile * 16 * depth, columns - tile * 16, depth, step,
                  out + step * step_bytes + tile * kTileBytes);
  }
};

// The rows' scales lie behind an operand's lines, the columns' scales behind a panel's.
struct Int8Format {
  static constexpr int kParts = 1;
  static constexpr int kStep = 64;

  static constexpr ptrdiff_t step_bytes = kBlock * kLine;
  static int steps(int depth) { return blocks(depth, kStep); }
  static size_t panel_bytes(int depth) { return steps(depth) * step_bytes + kBlock * sizeof(float); }

  static ptrdiff_t lines_bytes(int rows, int columns) {
    return (ptrdiff_t)blocks(rows, kBlock) * steps(columns) * step_bytes;
  }
  static size_t bytes(int rows, int columns) { return lines_bytes(rows, columns) + rows * sizeof(float); }
  static float* scales(const void* operand, int rows, int columns) {
    return (float*)((char*)operand + lines_bytes(rows, columns));
  }
  static char* at(const void* operand, int columns, int row, int step) {
    return (char*)operand + ((ptrdiff_t)row / kBlock * steps(columns) + step) * step_bytes + row % kBlock * kLine;
  }
  static void store(void* operand, int rows, int row, int columns, const GroupedRow& from) {
    const float scale = row_scale(from, columns);
    scales(operand, rows, columns)[row] = scale;
    const Vec factor = Vec::all(factor_of(scale));
    for (int c = 0; c < steps(columns) * kStep; c += kGroup) {
      const Vec x = c < columns ? clamp(Vec::load(from.at(c)) * factor, -kInt8Largest, kInt8Largest) : Vec::zero();
      _mm_storeu_si128((__m128i*)(at(operand, columns, row, c / kStep) + c % kStep),
                       _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
    }
  }

  static void pack_panel(const float* weight, int columns, int depth, char* out) {
    float* scales = (float*)(out + steps(depth) * step_bytes);
    for (int column = 0; column < kBlock; column++)
      scales[column] = column < columns ? column_scale(weight + (ptrdiff_t)column * depth, depth) : 0;
    for (int step = 0; step < steps(depth); step++)
      for (int tile = 0; tile < 2; tile++) {
        alignas(64) int8_t bytes[16][kStep] = {};
        __m512i line[16];
        for (int i = 0; i < 16; i++) {
          const int column = tile * 16 + i;
          for (int k = step * kStep; column < columns && k < smaller(depth, (step + 1) * kStep); k++)
            bytes[i][k % kStep] = to_int8(weight[(ptrdiff_t)column * depth + k], factor_of(scales[column]));
          line[i] = load_line(bytes[i]);
        }
        transpose(line);
        for (int i = 0; i < 16; i++) store_line(out + step * step_bytes + tile * kTileBytes + i * kLine, line[i]);
      }
  }
};

template <class Format>
size_t tiles_weight_bytes(int columns, int depth) {
  return blocks(columns, kBlock) * Format::panel_bytes(depth);
}

template <class Format>
void pack_tiles_weight(const float* weight, int columns, int depth, void* packed) {
  char* out = (char*)packed;
  for (int column = 0; column < columns; column += kBlock, out += Format::panel_bytes(depth))
    Format::pack_panel(weight + (ptrdiff_t)column * depth, columns - column, depth, out);
}

// Heads are [panel of 32 columns][row][part][line]: a sequence's tiles may begin at any row. Behind the last row there is
// room for a block that begins in it.
template <int kParts>
struct TileHeads {
  static ptrdiff_t panel_bytes(int rows) { return (ptrdiff_t)(rows + kBlock) * kParts * kLine; }
  static char* at(const void* heads, int rows, int row, int panel) {
    return (char*)heads + panel * panel_bytes(rows) + (ptrdiff_t)row * kParts * kLine;
  }
  static size_t bytes(int rows, int num_heads, int head_size) {
    return blocks(3 * num_heads * head_size, kBlock) * panel_bytes(rows);
  }

  static constexpr int kColumns = kBlock;
  static void load(const char* at, Vec& first, Vec& second) {
    first = low_half(load_line(at));
    second = high_half(load_line(at));
    if constexpr (kParts == 2) {
      first = first + low_half(load_line(at + kLine));
      second = second + high_half(load_line(at + kLine));
    }
  }
  static void load(const NormHeads& a, int row, int column, float* to) {
    Vec first, second;
    load(at(a.heads, a.rows, row, column / kBlock), first, second);
    first.store(to);
    second.store(to + kGroup);
  }
  static void store(const NormHeads& a, int row, int column, const float* from, int left) {
    store_parts<kParts>(at(a.heads, a.rows, row, column / kBlock), kLine, Vec::load(from).first(left),
                        Vec::load(from + kGroup).first(left - kGroup));
  }
};

template <int kParts>
void rotate_tiles(const Rotate& a) {
  for (int row = a.begin; row < smaller(a.end, a.rows); row++) {
    const float* angles = a.angles + (ptrdiff_t)a.positions[row] * a.head_size;
    for (int column = 0; column < 2 * a.num_heads * a.head_size; column += kBlock) {
      char* at = TileHeads<kParts>::at(a.heads, a.rows, row, column / kBlock);
      Vec x, y;
      TileHeads<kParts>::load(at, x, y);
      const Vec cosine = Vec::load(angles + column % a.head_size), sine = Vec::load(angles + column % a.head_size + kGroup);
      store_parts<kParts>(at, kLine, x * cosine - y * sine, y * cosine + x * sine);
    }
  }
}
