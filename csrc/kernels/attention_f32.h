// Attention of one sequence in float32, written once over Vec: head by head, a tile of queries against all keys.

// Keys of one head as the right side of a product: [panel][head_size][kPanel], zeros past the last key.
inline void transpose_keys(const float* keys, ptrdiff_t group_stride, int tokens, int head_size, float* out) {
  for (int first = 0; first < tokens; first += kPanel)
    for (int group = 0; group < head_size / kGroup; group++)
      for (int k = 0; k < kGroup; k++)
        for (int c = 0; c < kPanel; c++)
          *out++ = first + c < tokens ? keys[group * group_stride + (ptrdiff_t)(first + c) * kGroup + k] : 0;
}

inline int whole_panels(int tokens) { return (tokens + kPanel - 1) / kPanel * kPanel; }

size_t attention_scratch(int tokens, int head_size) {
  return (size_t)whole_panels(tokens) * (head_size + Vec::tile_rows) + 2 * kGroup;
}

// One row of scores, stored [group][row of the tile][kGroup]: e^(score - largest), zeros past the last key.
// Returns the sum, by which the caller divides.
inline float softmax(float* row, ptrdiff_t group_stride, int tokens) {
  constexpr float kLowest = -3.4e38f;
  auto at = [&](int key) { return row + key / kGroup * group_stride + key % kGroup; };
  Vec largest = Vec::all(kLowest);
  int whole = tokens / Vec::lanes * Vec::lanes;
  for (int key = 0; key < whole; key += Vec::lanes) largest = max(Vec::load(at(key)), largest);
  float top = largest.largest();
  for (int key = whole; key < tokens; key++) top = *at(key) > top ? *at(key) : top;
  Vec sum = Vec::zero();
  for (int key = 0; key < whole_groups(tokens); key += Vec::lanes) {
    Vec p = exp(Vec::load(at(key)) - Vec::all(top)).first(tokens - key < 0 ? 0 : tokens - key);
    p.store(at(key));
    sum = sum + p;
  }
  return sum.sum();
}

struct Head {
  const float* queries;  // the sequence's first row, as are values and out
  const float* values;
  float* out;
  ptrdiff_t group_stride;
  const float* keys;  // transposed
  float* scores;
  float* probabilities;  // (tokens, tokens), or null
  int tokens, size;
};

template <int R>
void attention_tile(const Head& h, int row) {
  constexpr ptrdiff_t kScoreStride = R * kGroup;
  for (int panel = 0; panel < h.tokens; panel += kPanel) {
    Vec sum[R][Vec::tile_vecs];
    const float* b[Vec::tile_vecs];
    for (int v = 0; v < Vec::tile_vecs; v++) {
      b[v] = h.keys + (ptrdiff_t)panel * h.size + v * Vec::lanes;
      for (int r = 0; r < R; r++) sum[r][v] = Vec::zero();
    }
    multiply<R>(h.queries + (ptrdiff_t)row * kGroup, h.group_stride, b, kPanel, h.size, sum);
#pragma GCC unroll 4
    for (int v = 0; v < Vec::tile_vecs; v++) {
      const int key = panel + v * Vec::lanes;
      float* out = h.scores + key / kGroup * kScoreStride + key % kGroup;
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) sum[r][v].store(out + r * kGroup);
    }
  }
  Vec share[R];
  for (int r = 0; r < R; r++) {
    float sum = softmax(h.scores + r * kGroup, kScoreStride, h.tokens);
    share[r] = Vec::all(1.0f / sum);
    if (h.probabilities)
      for (int key = 0; key < h.tokens; key++)
        h.probabilities[(ptrdiff_t)(row + r) * h.tokens + key] =
            h.scores[key / kGroup * kScoreStride + r * kGroup + key % kGroup] / sum;
  }
  // A head's values have whole groups of columns, not always whole panels: one group of vectors at a time.
  constexpr int V = Vec::lanes < kGroup ? Vec::tile_vecs : 1;
  for (int column = 0; column < h.size; column += V * Vec::lanes) {
    Vec sum[R][V];
    const float* b[V];
    ptrdiff_t at = column / kGroup * h.group_stride + column % kGroup;
    for (int v = 0; v < V; v++) {
      b[v] = h.values + at + v * Vec::lanes;
      for (int r = 0; r < R; r++) sum[r][v] = Vec::zero();
    }
    multiply<R>(h.scores, kScoreStride, b, kGroup, h.tokens, sum);
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
#pragma GCC unroll 16
      for (int r = 0; r < R; r++)
        (sum[r][v] * share[r]).store(h.out + at + (ptrdiff_t)(row + r) * kGroup + v * Vec::lanes);
  }
}

void attention(const Attention& a) {
  const ptrdiff_t group_stride = (ptrdiff_t)a.rows * kGroup;
  const int groups = a.head_size / kGroup, all = a.num_heads * groups;  // groups of a head, of all queries
  Head h;
  h.tokens = a.end - a.begin;
  h.size = a.head_size;
  h.group_stride = group_stride;
  float* keys = a.scratch + (kGroup - (uintptr_t)a.scratch / sizeof(float) % kGroup) % kGroup;
  h.keys = keys;
  h.scores = keys + (ptrdiff_t)whole_panels(h.tokens) * h.size;
  for (int head = 0; head < a.num_heads; head++) {
    auto column = [&](int group) { return operand_at((void*)a.heads, a.rows, a.begin, head * groups + group); };
    h.queries = column(0);
    transpose_keys(column(all), group_stride, h.tokens, h.size, keys);
    h.values = column(2 * all);
    h.out = operand_at(a.out, a.rows, a.begin, head * groups);
    h.probabilities = a.probabilities ? a.probabilities + (ptrdiff_t)head * h.tokens * h.tokens : nullptr;
    for_tiles(h.tokens, [&](int row, int size) {
      with_rows(size, [&]<int R>() { attention_tile<R>(h, row); });
    });
  }
}

size_t heads_bytes(int rows, int num_heads, int head_size) { return operand_bytes(rows, 3 * num_heads * head_size); }
