// Attention of one sequence by tiles: head by head, 16 queries against all keys, 32 keys at a time.
//
// Scores come in powers of two (Kernels::score_unit), so a share is 2^score, over the sum of all. No largest score is
// looked for first: 2^score is as exact far from 1 as near to it. Where a row's sum leaves what float32 holds well, the row is
// computed again with its largest score taken off; a row's numbers decide, so its bits depend on nothing else.

constexpr float kLeastSum = 0x1p-100f, kMostSum = 0x1p100f;

// Keys as the right side of a product: [block of 32 keys][half][step][part] tiles. What stands behind the last key means
// nothing.
template <int kParts>
inline void pack_keys(const char* keys, ptrdiff_t panel_bytes, int tokens, int steps, char* out) {
  for (int first = 0; first < tokens; first += kKeys)
    for (int half = 0; half < 2; half++)
      for (int step = 0; step < steps; step++)
        for (int part = 0; part < kParts; part++, out += kTileBytes) {
          const char* from = keys + step * panel_bytes + ((ptrdiff_t)first * kParts + part) * kLine;
          __m512i line[16];
#pragma GCC unroll 16
          for (int i = 0; i < 16; i++) line[i] = load_line(from + (ptrdiff_t)Shares<kParts>::key(half, i) * kParts * kLine);
          transpose(line);
#pragma GCC unroll 16
          for (int i = 0; i < 16; i++) store_line(out + i * kLine, line[i]);
        }
}

// Values as the right side: [block of 32 keys][tile of 16 columns][part] tiles, zeros past the last key.
template <int kParts>
inline void pack_values(const char* values, ptrdiff_t panel_bytes, int tokens, int steps, char* out) {
  alignas(64) uint16_t low[32], high[32];
  for (int i = 0; i < 32; i++) {
    low[i] = i / 2 + i % 2 * 32;
    high[i] = low[i] + 16;
  }
  const __m512i to_low = load_line(low), to_high = load_line(high);
  for (int first = 0; first < tokens; first += kKeys)
    for (int step = 0; step < steps; step++)
      for (int part = 0; part < kParts; part++) {
        char* to = out + ((ptrdiff_t)(first / kKeys * steps + step) * 2 * kParts + part) * kTileBytes;
        for (int key = first; key < first + kKeys; key += 2, to += kLine) {
          const char* from = values + step * panel_bytes + ((ptrdiff_t)key * kParts + part) * kLine;
          const __m512i even = key < tokens ? load_line(from) : _mm512_setzero_si512();
          const __m512i odd = key + 1 < tokens ? load_line(from + kParts * kLine) : _mm512_setzero_si512();
          store_line(to, _mm512_permutex2var_epi16(even, to_low, odd));
          store_line(to + kParts * kTileBytes, _mm512_permutex2var_epi16(even, to_high, odd));
        }
      }
}

// One head of one sequence.
template <int kParts>
struct TileHead {
  const char* queries;        // the sequence's first row
  const char *keys, *values;  // packed
  ptrdiff_t panel_bytes;      // of the queries' storage
  int tokens, num_keys, steps;  // steps along the head's size
  int window;
  const char* starts;    // what scores begin with where key and query are the same token
  ptrdiff_t start_step;  // bytes to the next distance; 0 where all scores begin alike
  const VectorStarts<kParts>* made = nullptr;  // what makes the starts, where vectors by distance do

  // Loads tile T with what the scores of half of 32 keys begin with.
  template <int T>
  void load_starts(int query, int first, int half) const {
    if (made)
      tile_load<T>(made->at(query) + first + half * 16, made->row_bytes());
    else
      tile_load<T>(starts + (first + Shares<kParts>::key(half, 0) - query) * start_step, -start_step);
  }

  KeyRange keys_of(int query) const { return keys_seen(num_keys, window, query, kTileRows, kKeys); }
};

// What 16 queries come to: the context of up to 64 columns, still to be divided by the sums.
struct alignas(64) Context {
  float at[kTileRows][64];
  float sums[kTileRows][16];  // all 16 the same
};

template <int kParts>
struct alignas(64) Room {
  float scores[2][kTileRows][kKeys];
  char shares[2][kParts][kTileBytes];
  float shift[kTileRows];  // what is taken off a row's scores
  Context contexts[2];
};

// A tile of one number throughout is loaded from one line, row after row.
alignas(64) constexpr auto kOnes = [] {
  struct {
    uint16_t bf16[32];
  } line{};
  for (uint16_t& one : line.bf16) one = 0x3f80;
  return line;
}();
template <int kParts>
alignas(64) constexpr auto kStarts = [] {
  struct {
    float at[16];
  } line{};
  for (float& start : line.at) start = Shares<kParts>::kStart;
  return line;
}();

// The lanes of 32 keys, from `first` on, that stand for a token.
inline uint32_t tokens_from(int first, int tokens) {
  const int left = tokens - first;
  return left >= kKeys ? ~0u : left <= 0 ? 0 : (1u << left) - 1;
}

// scores (tile 4) = queries * keys, both halves of 32 keys. A head of one step in bfloat16 leaves tiles free: with kStay
// queries stay in tile 2, and ones in tile 3.
template <int kParts, bool kStay = false>
inline void score_keys(const TileHead<kParts>& h, int query, int first, Room<kParts>& room) {
  float* out = room.scores[first / kKeys % 2][0];
  const char* keys = h.keys + (ptrdiff_t)first / kKeys * 2 * h.steps * kParts * kTileBytes;
  for (int half = 0; half < 2 && first + Shares<kParts>::key(half, 0) < h.num_keys; half++) {
    const char* queries = h.queries + (ptrdiff_t)query * kParts * kLine;
    h.template load_starts<4>(query, first, half);
    for (int step = 0; step < h.steps; step++, keys += kParts * kTileBytes, queries += h.panel_bytes) {
      tile_load<7>(keys);
      if constexpr (kStay) {
        tile_dot_bf16<4, 2, 7>();
        continue;
      }
      if constexpr (kParts == 2) {
        tile_load<6>(queries + kLine, kParts * kLine);
        tile_dot_bf16<4, 6, 7>();
      }
      tile_load<6>(queries, kParts * kLine);
      tile_dot_bf16<4, 6, 7>();
      if constexpr (kParts == 2) {
        tile_load<7>(keys + kTileBytes);
        tile_dot_bf16<4, 6, 7>();
      }
    }
    tile_store<4>(out + half * 16, sizeof room.scores[0][0]);
  }
}

template <int kParts, bool kShift>
inline void share_keys(const TileHead<kParts>& h, int first, Room<kParts>& room) {
  const int turn = first / kKeys % 2;
  const uint32_t keep = tokens_from(first, h.num_keys);
#pragma GCC unroll 4
  for (int row = 0; row < kTileRows; row++) {
    const float* from = room.scores[turn][row];
    Vec x = Vec::load(from), y = Vec::load(from + 16);
    if constexpr (kShift) {
      const Vec shift = Vec::all(room.shift[row]);
      x = x - shift;
      y = y - shift;
    }
    __m512i part[kParts];
    Shares<kParts>::make(x, y, keep, part);
    for (int i = 0; i < kParts; i++) store_line(room.shares[turn][i] + row * kLine, part[i]);
  }
}

// context (tiles 0 to kTiles - 1) += shares * values; sums (tile 5) += shares * ones, which costs less than adding lanes
template <int kParts, int kTiles, bool kStay>
inline void add_values(const TileHead<kParts>& h, int first, int column_tile, Room<kParts>& room) {
  const int turn = first / kKeys % 2;
  const char* values = h.values + ((ptrdiff_t)first / kKeys * h.steps * 2 + column_tile) * kParts * kTileBytes;
  const auto add = [&]<int T>() __attribute__((always_inline)) {
    if constexpr (T < kTiles) {
      tile_load<7>(values + T * kParts * kTileBytes);
      if constexpr (kParts == 2) tile_dot_bf16<T, 4, 7>();
      tile_dot_bf16<T, 6, 7>();
      if constexpr (kParts == 2) {
        tile_load<7>(values + (T * kParts + 1) * kTileBytes);
        tile_dot_bf16<T, 6, 7>();
      }
    }
  };
  tile_load<6>(room.shares[turn][0]);
  if constexpr (kParts == 2) tile_load<4>(room.shares[turn][1]);
  if constexpr (kStay) {
    tile_dot_bf16<5, 6, 3>();
  } else {
    tile_load<7>(&kOnes, 0);
    if constexpr (kParts == 2) tile_dot_bf16<5, 4, 7>();
    tile_dot_bf16<5, 6, 7>();
  }
  add.template operator()<0>();
  add.template operator()<1>();
  add.template operator()<2>();
  add.template operator()<3>();
}

// 16 queries' context, 16 * kTiles columns of it. The next keys' scores and the last ones' values are multiplied while
// shares are made.
template <int kParts, int kTiles, bool kStay, bool kShift>
void attend(const TileHead<kParts>& h, int query, int column_tile, Room<kParts>& room, Context& context) {
  tile_zero<0>();
  tile_zero<1>();
  if constexpr (kStay) {
    tile_load<2>(h.queries + (ptrdiff_t)query * kLine);
    tile_load<3>(&kOnes, 0);
  } else {
    tile_zero<2>();
    tile_zero<3>();
  }
  tile_zero<5>();
  const KeyRange keys = h.keys_of(query);
  score_keys<kParts, kStay>(h, query, keys.begin, room);
  for (int first = keys.begin; first < keys.end; first += kKeys) {
    if (first + kKeys < keys.end) score_keys<kParts, kStay>(h, query, first + kKeys, room);
    if (first > keys.begin) add_values<kParts, kTiles, kStay>(h, first - kKeys, column_tile, room);
    share_keys<kParts, kShift>(h, first, room);
  }
  add_values<kParts, kTiles, kStay>(h, (keys.end - 1) / kKeys * kKeys, column_tile, room);
  constexpr ptrdiff_t kStride = sizeof context.at[0];
  tile_store<5>(context.sums);
  tile_store<0>(context.at[0], kStride);
  tile_store<1>(context.at[0] + 16, kStride);
  if constexpr (kTiles > 2) tile_store<2>(context.at[0] + 32, kStride);
  if constexpr (kTiles > 2) tile_store<3>(context.at[0] + 48, kStride);
}

// The 16 queries' sums side by side.
inline Vec gather_sums(const Context& context) {
  const __m512i rows = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  return {_mm512_i32gather_ps(_mm512_slli_epi32(rows, 4), context.sums[0], sizeof(float))};
}

// Finds the largest score of the `count` rows whose sum says that they need it; tells if there are any.
template <int kParts>
inline bool find_shifts(const TileHead<kParts>& h, int query, int count, Vec sums, Room<kParts>& room) {
  const __mmask16 good = _mm512_cmp_ps_mask(sums.v, _mm512_set1_ps(kLeastSum), _CMP_GT_OQ) &
                         _mm512_cmp_ps_mask(sums.v, _mm512_set1_ps(kMostSum), _CMP_LT_OQ);
  const uint32_t bad = ~good & ((1u << count) - 1);
  Vec::zero().store(room.shift);
  if (!bad) return false;
  for (int row = 0; row < count; row++)
    if (bad >> row & 1) room.shift[row] = -3.4e38f;
  const KeyRange keys = h.keys_of(query);
  for (int first = keys.begin; first < keys.end; first += kKeys) {
    score_keys<kParts>(h, query, first, room);
    for (int row = 0; row < count; row++)
      for (int i = 0; i < kKeys; i++) {
        const bool stands = first + Shares<kParts>::key(i / 16, i % 16) < h.num_keys;
        const float score = room.scores[first / kKeys % 2][row][i] - Shares<kParts>::kStart;
        if (stands && bad >> row & 1 && score > room.shift[row]) room.shift[row] = score;
      }
  }
  return true;
}

// The shares as they were multiplied with the values.
template <int kParts>
void write_shares(const TileHead<kParts>& h, int query, int count, const Context& context, Room<kParts>& room, float* out) {
  const KeyRange keys = h.keys_of(query);
  for (int i = 0; keys.end - keys.begin < h.tokens && i < count * h.tokens; i++) out[(ptrdiff_t)query * h.tokens + i] = 0;
  for (int first = keys.begin; first < keys.end; first += kKeys) {
    score_keys<kParts>(h, query, first, room);
    const uint32_t keep = tokens_from(first, h.num_keys);
    for (int row = 0; row < count; row++) {
      const float* scores = room.scores[first / kKeys % 2][row];
      const bool sees = sees_any(h.num_keys, h.window, query + row);
      const Vec shift = Vec::all(room.shift[row]), sum = Vec::all(sees ? context.sums[row][0] : __builtin_inff());
      __m512i part[kParts];
      Shares<kParts>::make(Vec::load(scores) - shift, Vec::load(scores + 16) - shift, keep, part);
      Vec x = Vec::zero(), y = Vec::zero();
      for (int i = kParts - 1; i >= 0; i--) {
        x = x + low_half(part[i]);
        y = y + high_half(part[i]);
      }
      float* to = out + (ptrdiff_t)(query + row) * h.tokens + first;
      _mm512_mask_storeu_ps(to, (__mmask16)keep, (x / sum).v);
      _mm512_mask_storeu_ps(to + 16, (__mmask16)(keep >> 16), (y / sum).v);
    }
  }
}

inline ptrdiff_t key_bytes(int tokens, int steps, int parts) {
  return (ptrdiff_t)blocks(tokens, kKeys) * 2 * steps * parts * kTileBytes;
}

// What scores begin with, by the distance of key and query: from so far before the query on, for so many distances. Blocks of
// queries and keys reach past the sequence.
inline int first_distance(int tokens) { return -(tokens + kTileRows); }
inline int distances(int tokens) { return 2 * tokens + kTileRows + kKeys; }

// Numbers by distance, a block of keys more than there are distances, and lines made of them where scores want another order.
inline int distance_numbers(int tokens) { return whole_groups(distances(tokens) + kKeys); }
template <int kParts>
inline ptrdiff_t start_floats(int tokens) {
  constexpr int kStep = Shares<kParts>::kStartStep;
  return distance_numbers(tokens) + (kStep == 1 ? 0 : (ptrdiff_t)distances(tokens) * kStep);
}

// Returns where the starts are.
template <int kParts>
const float* make_starts(const Attention& a, int head, int tokens, float* room) {
  const int count = distance_numbers(tokens);
  relative_scores(a, head, first_distance(tokens), count, room);
  for (int i = 0; i < count; i++) room[i] += Shares<kParts>::kStart;
  if constexpr (Shares<kParts>::kStartStep == 1) return room;
  float* const lines = room + count;
  for (ptrdiff_t i = 0; i < distances(tokens); i++)
    for (int column = 0; column < 16; column++) lines[i * 16 + column] = room[i + Shares<kParts>::key(0, column)];
  return lines;
}

template <int kParts>
size_t tiles_attention_scratch(int tokens, int head_size) {
  return (2 * key_bytes(tokens, blocks(head_size, kBlock), kParts) + sizeof(Room<kParts>) + kLine) / sizeof(float) +
         start_floats<kParts>(tokens);
}

// All heads of one sequence. Write::write(a, row, column, 32 numbers) puts away a part of a row's context.
template <int kParts, class Write>
class TileAttention {
 public:
  explicit TileAttention(const Attention& a)
      : a_(a),
        steps_(a.head_size / kBlock),
        vectors_(a, a.scratch + tiles_attention_scratch<kParts>(a.end - a.begin, a.head_size)) {
    char* scratch = (char*)a.scratch + (kLine - (uintptr_t)a.scratch % kLine) % kLine;
    room_ = (Room<kParts>*)scratch;
    keys_ = scratch + sizeof *room_;
    head_.tokens = a.end - a.begin;
    head_.num_keys = smaller(a.keys, head_.tokens);
    head_.steps = steps_;
    head_.panel_bytes = TileHeads<kParts>::panel_bytes(a.rows);
    head_.keys = keys_;
    head_.values = keys_ + key_bytes(head_.tokens, steps_, kParts);
    head_.window = smaller(a.window, head_.tokens);
    head_.starts = (const char*)&kStarts<kParts>;
    head_.start_step = 0;
  }

  void run() {
    for (int head = a_.first_head; head < smaller(a_.last_head, a_.num_heads); head++) one_head(head);
  }

 private:
  // Up to two steps' columns of 16 queries.
  struct Work {
    int query, step, turn;
  };

  // Each 16 queries' numbers are put away after the next 16 are on their way.
  void one_head(int head) {
    const int all = a_.num_heads * steps_;  // panels of all queries
    const auto panel = [&](int part) { return TileHeads<kParts>::at(a_.heads, a_.rows, a_.begin, part * all + head * steps_); };
    head_.queries = panel(0);
    pack_keys<kParts>(panel(1), head_.panel_bytes, head_.num_keys, steps_, keys_);
    pack_values<kParts>(panel(2), head_.panel_bytes, head_.num_keys, steps_, (char*)head_.values);
    if (is_relative(a_)) {
      float* const room = (float*)(head_.values + key_bytes(head_.tokens, steps_, kParts));
      head_.start_step = Shares<kParts>::kStartStep * sizeof(float);
      const float* const starts = make_starts<kParts>(a_, head, head_.tokens, room);
      head_.starts = (const char*)starts - first_distance(head_.tokens) * head_.start_step;
    }
    if (a_.vectors) {
      vectors_.begin_head(head, head_.queries, panel(1), head_.panel_bytes);
      head_.made = &vectors_;
    }
    Work before{-1, 0, 0};
    for (int query = 0; query < head_.tokens; query += kTileRows)
      for (int step = 0; step < steps_; step += 2) {
        if (a_.vectors && step == 0) vectors_.make(query);
        const Work work{query, step, before.turn ^ 1};
        compute<false>(work);
        if (before.query >= 0) finish(head, before);
        before = work;
      }
    finish(head, before);
  }

  template <bool kShift>
  void compute(const Work& work) {
    Context& context = room_->contexts[work.turn];
    if (steps_ == 1)
      attend<kParts, 2, kParts == 1, kShift>(head_, work.query, 0, *room_, context);
    else if (work.step + 1 < steps_)
      attend<kParts, 4, false, kShift>(head_, work.query, 2 * work.step, *room_, context);
    else
      attend<kParts, 2, false, kShift>(head_, work.query, 2 * work.step, *room_, context);
  }

  void finish(int head, const Work& work) {
    const int count = smaller(kTileRows, head_.tokens - work.query);
    const Context& context = room_->contexts[work.turn];
    Vec sums = gather_sums(context);
    if (find_shifts<kParts>(head_, work.query, count, sums, *room_)) {
      compute<true>(work);
      sums = gather_sums(context);
    }
    alignas(64) float factors[kTileRows];
    (Vec::all(1) / sums).store(factors);
    for (int row = 0; row < count; row++) {
      const Vec factor = Vec::all(sees_any(head_.num_keys, head_.window, work.query + row) ? factors[row] : 0);
      for (int i = 0; i < 2 && work.step + i < steps_; i++) {
        const float* from = context.at[row] + i * kBlock;
        Write::write(a_, a_.begin + work.query + row, (head * steps_ + work.step + i) * kBlock, Vec::load(from) * factor,
                     Vec::load(from + 16) * factor);
      }
    }
    if (a_.probabilities && work.step == 0)
      write_shares<kParts>(head_, work.query, count, context, *room_,
                           a_.probabilities + (ptrdiff_t)head * head_.tokens * head_.tokens);
  }

  const Attention& a_;
  const int steps_;
  VectorStarts<kParts> vectors_;
  Room<kParts>* room_;
  char* keys_;
  TileHead<kParts> head_;
};

template <int kParts>
struct ContextToOperand {
  static void write(const Attention& a, int row, int column, Vec first, Vec second) {
    Bf16Format<kParts>::store32(a.out, a.num_heads * a.head_size, row, column, first, second);
  }
};
template <int kParts>
void attention_bf16(const Attention& a) {
  TileAttention<kParts, ContextToOperand<kParts>>(a).run();
}

// int8's operand wants whole rows, so the context is floats.
struct ContextToFloats {
  static void write(const Attention& a, int row, int column, Vec first, Vec second) {
    first.store(floats_at(a.out, a.rows, row, column / kGroup));
    second.store(floats_at(a.out, a.rows, row, column / kGroup + 1));
  }
};
void attention_to_floats(const Attention& a) { TileAttention<1, ContextToFloats>(a).run(); }
