// Vectors by distance (RelativeVectors) in float32, written once over Vec: packed [head_size][columns].

// The columns of a tile of scores are one group.
constexpr int kGroupVecs = kGroup / Vec::lanes;

size_t vectors_bytes(int columns, int head_size) { return sizeof(float) * columns * head_size; }

void pack_vectors(const float* vectors, int columns, int head_size, void* packed) {
  float* out = (float*)packed;
  for (int i = 0; i < head_size; i++)
    for (int column = 0; column < columns; column++) *out++ = vectors[(ptrdiff_t)column * head_size + i];
}

// One head's: number i of the vector for a distance is at[i * stride + distance].
struct VectorRows {
  const float* at = nullptr;
  ptrdiff_t stride = 0;
};

// From the first key that the last query sees to the last that the first does, and the rest of that one's group.
inline int vector_stride(int tokens) { return tokens - 1 + whole_groups(tokens); }

size_t vectors_scratch(int tokens, int head_size) { return 2 * (size_t)vector_stride(tokens) * head_size; }

// Where the vectors lie, or, where distances share columns, spread out to `room`.
inline VectorRows spread_vectors(const RelativeVectors& v, const void* packed, int head, int tokens, int head_size, float* room) {
  if (!packed) return {};
  const float* from = (const float*)((const char*)packed + head * v.head_bytes);
  if (tokens - 1 <= v.near) return {from + v.column[0], v.columns};
  const int stride = vector_stride(tokens);
  for (int i = 0; i < head_size; i++, from += v.columns) {
    float* to = room + (ptrdiff_t)i * stride + tokens - 1;
    for (int distance = 1 - tokens; distance < tokens; distance++) to[distance] = from[v.column[distance]];
    for (int distance = tokens; distance < whole_groups(tokens); distance++) to[distance] = 0;
  }
  return {room + tokens - 1, stride};
}

// sum[r][v] += x[r] * vectors, whose distance is one less for each row; `vectors` is the first row's for the first key.
template <int R>
inline void add_query_products(const float* x, ptrdiff_t x_stride, const float* vectors, ptrdiff_t stride, int depth,
                               Vec (&sum)[R][kGroupVecs]) {
  for (int i = 0; i < depth; i++, vectors += stride) {
    const float* numbers = x + i / kGroup * x_stride + i % kGroup;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
      const Vec number = Vec::all(numbers[r * kGroup]);
#pragma GCC unroll 4
      for (int v = 0; v < kGroupVecs; v++)
        sum[r][v] = multiply_add(number, Vec::load(vectors - r + v * Vec::lanes), sum[r][v]);
    }
  }
}

// sum[r][v] += key * vectors, for each of a group of keys; else as above.
template <int R>
inline void add_key_products(const float* keys, const float* vectors, ptrdiff_t stride, int depth, Vec (&sum)[R][kGroupVecs]) {
  for (int i = 0; i < depth; i++, keys += kGroup, vectors += stride) {
    Vec key[kGroupVecs];
    for (int v = 0; v < kGroupVecs; v++) key[v] = Vec::load(keys + v * Vec::lanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
      for (int v = 0; v < kGroupVecs; v++)
        sum[r][v] = multiply_add(key[v], Vec::load(vectors - r + v * Vec::lanes), sum[r][v]);
    }
  }
}
