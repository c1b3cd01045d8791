// Vectors by distance (RelativeVectors) on tiles: what 16 queries' scores begin with, instead of a constant.
//
// A panel is 16 distances, from a multiple of 16 on. The products of 16 queries (or keys) with the panels that they need are
// rows by distance, of which a score takes the number at its own: a query's row is read from one place on for 16 keys, a
// key's for 16 queries.

// The packed vectors of one head, as weights are packed: two panels lie side by side.
template <int kParts>
struct Panels {
  using Format = Bf16Format<kParts>;
  const char* zero = nullptr;  // where distance 0 is
  ptrdiff_t pair_bytes = 0;

  // Number n is the distances from 16 * n on.
  const char* at(int n) const { return zero + (n >> 1) * pair_bytes + (n & 1) * kTileBytes; }
};

template <int kParts>
size_t tile_vectors_bytes(int columns, int head_size) {
  return tiles_weight_bytes<Bf16Format<kParts>>(columns, head_size);
}

// The panels that a sequence's tiles read: the first one's number, and how many pairs there are from the one that it is in.
inline int first_panel(int tokens) { return -((tokens - 1) / kTileRows) - 1; }
inline int panel_pairs(int tokens) { return ((tokens - 1) / kTileRows >> 1) - (first_panel(tokens) >> 1) + 1; }

// Floats of a row of starts, and of a row of queries' products with all panels; an odd number of lines.
inline int start_stride(int tokens) { return blocks(tokens, kKeys) * kKeys + kGroup; }
inline int product_stride(int tokens) { return start_stride(tokens) + 2 * kGroup; }

template <int kParts>
size_t tile_vectors_scratch(int tokens, int head_size) {
  const size_t panels = panel_pairs(tokens) * Bf16Format<kParts>::panel_bytes(head_size);
  return 2 * panels / sizeof(float) + kTileRows * (2 * start_stride(tokens) + product_stride(tokens)) + kLine / sizeof(float);
}

// The starts of one head's scores, 16 queries at a time.
template <int kParts>
class VectorStarts {
 public:
  // `room` is tile_vectors_scratch floats.
  VectorStarts(const Attention& a, float* room)
      : a_(a),
        tokens_(a.end - a.begin),
        steps_(a.head_size / kBlock),
        start_stride_(start_stride(tokens_)),
        product_stride_(product_stride(tokens_)) {
    if (!a.vectors) return;
    for (float*& starts : starts_) {
      starts = (float*)((uintptr_t)room + (kLine - (uintptr_t)room % kLine) % kLine);
      room = starts + kTileRows * start_stride_;
    }
    products_ = room;
    room_ = (char*)(products_ + kTileRows * product_stride_);
  }

  // The head whose queries and keys lie at these rows, in panels so many bytes apart.
  void begin_head(int head, const char* queries, const char* keys, ptrdiff_t panel_bytes) {
    query_rows_ = queries;
    key_rows_ = keys;
    panel_bytes_ = panel_bytes;
    keys_ = find(a_.vectors->keys, head, room_);
    queries_ = find(a_.vectors->queries, head, room_ + panel_pairs(tokens_) * pair_bytes());
  }

  // Makes the starts of 16 queries, in rows over all keys: for each 32 keys two tiles side by side, in the order of
  // Shares::key. They stay until those of the next but one 16 are made.
  void make(int query) {
    if (keys_.zero)
      for (int column = 0; column <= blocks(tokens_, kTileRows) * kTileRows; column += kTileRows)
        multiply(query_rows_, query, keys_, (column - query) / kTileRows - 1, products_ + column, product_stride_);
    for (int first = 0; first < tokens_; first += kTileRows) make_tile(query, first);
  }

  float* at(int query) const { return starts_[query / kTileRows % 2]; }
  ptrdiff_t row_bytes() const { return start_stride_ * (ptrdiff_t)sizeof(float); }

 private:
  using Format = Bf16Format<kParts>;
  ptrdiff_t pair_bytes() const { return Format::panel_bytes(a_.head_size); }

  // Where a head's panels are, or, where distances share columns, the copies of them that are made in `room`.
  Panels<kParts> find(const void* packed, int head, char* room) const {
    if (!packed) return {};
    const RelativeVectors& v = *a_.vectors;
    const char* from = (const char*)packed + head * v.head_bytes;
    const Panels<kParts> stored{from + v.column[0] / kBlock * pair_bytes(), pair_bytes()};
    if (tokens_ - 1 <= v.near) return stored;
    const int first = first_panel(tokens_);
    const Panels<kParts> copies{room - (first >> 1) * pair_bytes(), pair_bytes()};
    for (int n = first; n <= (tokens_ - 1) / kTileRows; n++) copy_panel(stored, n, (char*)copies.at(n));
    return copies;
  }

  // 16 distances have their columns in two neighbouring panels.
  void copy_panel(const Panels<kParts>& stored, int n, char* to) const {
    const RelativeVectors& v = *a_.vectors;
    alignas(64) int32_t columns[16];
    for (int i = 0; i < 16; i++) {
      const int distance = n * kTileRows + i;
      columns[i] = v.column[distance < -v.reach ? -v.reach : smaller(distance, v.reach)] - v.column[0];
    }
    const int panel = columns[0] >> 4;
    const __m512i pick = _mm512_sub_epi32(load_line(columns), _mm512_set1_epi32(panel * 16));
    const char *low = stored.at(panel), *high = stored.at(panel + 1);
    for (int part = 0; part < steps_ * kParts; part++, low += 2 * kTileBytes, high += 2 * kTileBytes, to += 2 * kTileBytes)
      for (int line = 0; line < kTileBytes; line += kLine)
        store_line(to + line, _mm512_permutex2var_epi32(load_line(low + line), pick, load_line(high + line)));
  }

  // out (16 rows, 16 distances) = the rows from `row` on * a panel.
  void multiply(const char* rows, int row, const Panels<kParts>& panels, int n, float* out, int stride) const {
    rows += (ptrdiff_t)row * kParts * kLine;
    const char* w = panels.at(n);
    tile_zero<4>();
    for (int step = 0; step < steps_; step++, rows += panel_bytes_, w += Format::step_bytes) {
      tile_load<7>(w);
      if constexpr (kParts == 2) {
        tile_load<6>(rows + kLine, kParts * kLine);
        tile_dot_bf16<4, 6, 7>();
      }
      tile_load<6>(rows, kParts * kLine);
      tile_dot_bf16<4, 6, 7>();
      if constexpr (kParts == 2) {
        tile_load<7>(w + 2 * kTileBytes);
        tile_dot_bf16<4, 6, 7>();
      }
    }
    tile_store<4>(out, stride * (ptrdiff_t)sizeof(float));
  }

  // The starts for 16 keys. Distances are counted from 16 before those of the first query.
  void make_tile(int query, int first) {
    alignas(64) float room[kTileRows][2 * kTileRows];
    __m512i by_key[16];  // lines are queries, the last one first, after they are transposed
    if (queries_.zero) {
      const int panel = (first - query) / kTileRows;
      multiply(key_rows_, first, queries_, panel - 1, room[0], 2 * kTileRows);
      multiply(key_rows_, first, queries_, panel, room[0] + kTileRows, 2 * kTileRows);
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) by_key[i] = load_line(room[i] + i + 1);
      transpose(by_key);
    }
#pragma GCC unroll 16
    for (int row = 0; row < kTileRows; row++) {
      Vec start = Vec::all(Shares<kParts>::kStart);
      if (queries_.zero) start = start + Vec{_mm512_castsi512_ps(by_key[15 - row])};
      if (keys_.zero) start = start + Vec::load(products_ + row * product_stride_ + first + kTileRows - row);
      Shares<kParts>::store_keys(start, first, at(query) + row * start_stride_);
    }
  }

  const Attention& a_;
  const int tokens_, steps_, start_stride_, product_stride_;
  float *starts_[2] = {}, *products_ = nullptr;
  char* room_ = nullptr;
  const char *query_rows_ = nullptr, *key_rows_ = nullptr;
  ptrdiff_t panel_bytes_ = 0;
  Panels<kParts> keys_, queries_;
};
