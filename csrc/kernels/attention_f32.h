// Attention of one sequence in float32, written once over Vec: head by head, a tile of queries against all keys. Heads
// and context are floats.

// Keys of one head as the right side of a product: [group of keys][head_size][kGroup], zeros past the last key.
inline void transpose_keys(const float* keys, ptrdiff_t group_stride, int tokens, int head_size, float* out) {
  for (int first = 0; first < tokens; first += kGroup) {
    const int count = tokens - first < kGroup ? tokens - first : kGroup;
    for (int column = 0; column < head_size; column++, out += kGroup) {
      const float* in = keys + column / kGroup * group_stride + (ptrdiff_t)first * kGroup + column % kGroup;
      for (int key = 0; key < count; key++) out[key] = in[key * kGroup];
      for (int key = count; key < kGroup; key++) out[key] = 0;
    }
  }
}

// Transposed keys, a tile's scores, and what is added to them: from the last query's first key to the first query's last.
size_t attention_scratch(int tokens, int head_size) {
  return (size_t)whole_groups(tokens) * (head_size + Vec::tile_rows + 2) + kGroup;
}

// One row of scores, stored [group][row of the tile][kGroup]: e^(score - largest), zeros past the last key.
// Returns the sum, by which the caller divides.
inline float softmax(float* row, ptrdiff_t group_stride, int tokens) {
  constexpr float kLowest = -3.4e38f;
  Vec largest = Vec::all(kLowest), sum = Vec::zero();
  const auto each = [&](auto visit) {
    for (int key = 0; key < tokens; key += Vec::lanes) visit(row + key / kGroup * group_stride + key % kGroup, tokens - key);
  };
  each([&](float* at, int left) { largest = max(largest, Vec::load(at).first(left, kLowest)); });
  const Vec top = Vec::all(largest.largest());
  each([&](float* at, int left) {
    const Vec p = exp(Vec::load(at) - top).first(left);
    p.store(at);
    sum = sum + p;
  });
  return sum.sum();
}

struct Head {
  const float* queries;  // the sequence's first row, as are values and out
  const float* values;
  float* out;
  ptrdiff_t group_stride;
  const float* keys;  // transposed
  float* scores;
  const float* relative;  // what is added to a score, by the distance of key and query; or null
  VectorRows position_keys, position_queries;
  float* probabilities;  // (tokens, tokens), or null
  int tokens, num_keys, size, window;
};

void write_shares(const float* row, ptrdiff_t group_stride, float sum, const Head& h, int query, KeyRange keys) {
  float* out = h.probabilities + (ptrdiff_t)query * h.tokens;
  for (int key = 0; key < h.tokens; key++) out[key] = 0;
  for (int i = 0; i < keys.end - keys.begin; i++) out[keys.begin + i] = row[i / kGroup * group_stride + i % kGroup] / sum;
}

// sum[r][v] = x[r] * b[v], for one group of columns.
template <int R>
inline void group_product(const float* x, ptrdiff_t x_stride, const float* group, int depth,
                          Vec (&sum)[R][kGroupVecs]) {
  const float* b[kGroupVecs];
  for (int v = 0; v < kGroupVecs; v++) {
    b[v] = group + v * Vec::lanes;
    for (int r = 0; r < R; r++) sum[r][v] = Vec::zero();
  }
  multiply<R>(x, x_stride, b, kGroup, depth, sum);
}

// `relative` is the first row's for the first key; the next row's key is one token nearer.
template <int R>
inline void add_relative(const float* relative, Vec (&sum)[R][kGroupVecs]) {
  for (int r = 0; r < R; r++)
    for (int v = 0; v < kGroupVecs; v++) sum[r][v] = sum[r][v] + Vec::load(relative - r + v * Vec::lanes);
}

template <int R>
inline void add_positions(const Head& h, int row, int first, Vec (&sum)[R][kGroupVecs]) {
  const VectorRows &keys = h.position_keys, &queries = h.position_queries;
  if (keys.at)
    add_query_products<R>(h.queries + (ptrdiff_t)row * kGroup, h.group_stride, keys.at + first - row, keys.stride, h.size, sum);
  if (queries.at)
    add_key_products<R>(h.keys + (ptrdiff_t)first * h.size, queries.at + first - row, queries.stride, h.size, sum);
}

template <int R>
void attention_tile(const Head& h, int row) {
  constexpr ptrdiff_t kScoreStride = R * kGroup;
  const KeyRange keys = keys_seen(h.num_keys, h.window, row, R, kGroup);
  const int count = keys.end - keys.begin;
  for (int first = keys.begin; first < keys.end; first += kGroup) {
    Vec sum[R][kGroupVecs];
    group_product<R>(h.queries + (ptrdiff_t)row * kGroup, h.group_stride, h.keys + (ptrdiff_t)first * h.size, h.size, sum);
    if (h.relative) add_relative<R>(h.relative + first - row, sum);
    add_positions<R>(h, row, first, sum);
    float* out = h.scores + (ptrdiff_t)(first - keys.begin) * R;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kGroupVecs; v++) sum[r][v].store(out + r * kGroup + v * Vec::lanes);
  }
  Vec share[R];
  for (int r = 0; r < R; r++) {
    float sum = softmax(h.scores + r * kGroup, kScoreStride, count);
    if (!sees_any(h.num_keys, h.window, row + r)) sum = __builtin_inff();  // the shares of what it doesn't see are none
    share[r] = Vec::all(1.0f / sum);
    if (h.probabilities) write_shares(h.scores + r * kGroup, kScoreStride, sum, h, row + r, keys);
  }
  for (int group = 0; group < h.size / kGroup; group++) {
    Vec sum[R][kGroupVecs];
    const float* values = h.values + group * h.group_stride + (ptrdiff_t)keys.begin * kGroup;
    group_product<R>(h.scores, kScoreStride, values, count, sum);
    float* out = h.out + group * h.group_stride + (ptrdiff_t)row * kGroup;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int v = 0; v < kGroupVecs; v++) (sum[r][v] * share[r]).store(out + r * kGroup + v * Vec::lanes);
  }
}

void attention(const Attention& a) {
  const ptrdiff_t group_stride = (ptrdiff_t)a.rows * kGroup;
  const int groups = a.head_size / kGroup, all = a.num_heads * groups;  // groups of a head, of all queries
  Head h;
  h.tokens = a.end - a.begin;
  h.num_keys = smaller(a.keys, h.tokens);
  h.size = a.head_size;
  h.group_stride = group_stride;
  float* keys = a.scratch + (kGroup - (uintptr_t)a.scratch / sizeof(float) % kGroup) % kGroup;
  h.keys = keys;
  h.scores = keys + (ptrdiff_t)whole_groups(h.tokens) * h.size;
  h.window = smaller(a.window, h.tokens);
  const int first = 1 - h.tokens, distances = h.tokens - 1 + whole_groups(h.tokens);
  float* relative = h.scores + (ptrdiff_t)whole_groups(h.tokens) * Vec::tile_rows;
  h.relative = is_relative(a) ? relative - first : nullptr;
  float* const room = a.scratch + attention_scratch(h.tokens, h.size);
  for (int head = a.first_head; head < smaller(a.last_head, a.num_heads); head++) {
    auto column = [&](int group) { return floats_at((void*)a.heads, a.rows, a.begin, head * groups + group); };
    h.queries = column(0);
    transpose_keys(column(all), group_stride, h.num_keys, h.size, keys);
    h.values = column(2 * all);
    if (h.relative) relative_scores(a, head, first, distances, relative);
    if (const RelativeVectors* const v = a.vectors) {
      h.position_keys = spread_vectors(*v, v->keys, head, h.tokens, h.size, room);
      h.position_queries = spread_vectors(*v, v->queries, head, h.tokens, h.size, room + vectors_scratch(h.tokens, h.size) / 2);
    }
    h.out = floats_at(a.out, a.rows, a.begin, head * groups);
    h.probabilities = a.probabilities ? a.probabilities + (ptrdiff_t)head * h.tokens * h.tokens : nullptr;
    for_tiles(h.tokens, [&](int row, int size) {
      with_rows(size, [&]<int R>() { attention_tile<R>(h, row); });
    });
  }
}

void rotate(const Rotate& a) {
  const int groups = 2 * a.num_heads * (a.head_size / kGroup);  // of queries and keys
  for (int row = a.begin; row < smaller(a.end, a.rows); row++) {
    const float* angles = a.angles + (ptrdiff_t)a.positions[row] * a.head_size;
    for (int group = 0; group < groups; group += 2) {
      float* x = floats_at(a.heads, a.rows, row, group);
      float* y = floats_at(a.heads, a.rows, row, group + 1);
      const float* cosines = angles + group * kGroup % a.head_size;
      for (int i = 0; i < kGroup; i += Vec::lanes) {
        const Vec cosine = Vec::load(cosines + i), sine = Vec::load(cosines + kGroup + i);
        const Vec old_x = Vec::load(x + i), old_y = Vec::load(y + i);
        (old_x * cosine - old_y * sine).store(x + i);
        (old_y * cosine + old_x * sine).store(y + i);
      }
    }
  }
}

struct FloatHeads {
  static constexpr int kColumns = kGroup;
  static float* at(const NormHeads& a, int row, int column) { return floats_at(a.heads, a.rows, row, column / kGroup); }
  static void load(const NormHeads& a, int row, int column, float* to) {
    for (int i = 0; i < kGroup; i += Vec::lanes) Vec::load(at(a, row, column) + i).store(to + i);
  }
  static void store(const NormHeads& a, int row, int column, const float* from, int left) {
    for (int i = 0; i < kGroup; i += Vec::lanes) Vec::load(from + i).first(left - i).store(at(a, row, column) + i);
  }
};

size_t heads_bytes(int rows, int num_heads, int head_size) { return floats_bytes(rows, 3 * num_heads * head_size); }
