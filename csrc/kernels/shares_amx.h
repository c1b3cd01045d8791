// How attention's scores become shares, 32 keys at a time: 2^score, of which a row's sum is taken later. Scores begin at
// kStart, which stands for a share of 1; kUnit is the table's score_unit.
template <int kParts>
struct Shares;

constexpr int kKeys = 32;  // taken at a time: two tiles of scores

// float32: 2^x to 2e-7 relative, 2^(whole sixteenths) from a table times a polynomial of the rest. While tiles multiply,
// additions and permutations cost less than multiply-adds.
alignas(64) constexpr float kSixteenths[16] = {
    1.0f, 1.04427373f, 1.09050775f, 1.13878858f, 1.18920708f, 1.24185777f, 1.29683959f, 1.35425556f,
    1.41421354f, 1.47682619f, 1.54221082f, 1.61049032f, 1.68179286f, 1.75625217f, 1.8340081f, 1.91520655f};
template <>
struct Shares<2> {
  static constexpr float kUnit = 1.4426950408889634f, kStart = 0;
  static constexpr int kStartStep = 1;  // floats from what a tile's row of scores begins with to the next key's

  static Vec exp2(Vec x) {
    const Vec to_sixteenths = Vec::all(0x1.8p19f);  // adding it leaves the nearest sixteenth in the last bits
    const Vec shifted = x + to_sixteenths, whole = shifted - to_sixteenths, d = x - whole;
    const Vec power = {_mm512_permutexvar_ps(_mm512_castps_si512(shifted.v), Vec::load(kSixteenths).v)};
    Vec p = multiply_add(d, Vec::all(0.0555041087f), Vec::all(0.240226507f));
    p = multiply_add(p, d, Vec::all(0.693147181f));
    p = multiply_add(p, d, Vec::all(1));
    return {_mm512_scalef_ps((p * power).v, whole.v)};
  }

  // The part-th bfloat16 parts of 32 shares, of which `keep` stay.
  static void make(Vec x, Vec y, uint32_t keep, __m512i (&part)[2]) {
    x.v = _mm512_maskz_mov_ps((__mmask16)keep, exp2(x).v);
    y.v = _mm512_maskz_mov_ps((__mmask16)(keep >> 16), exp2(y).v);
    part[0] = to_bf16(x, y);
    part[1] = to_bf16(x - low_half(part[0]), y - high_half(part[0]));
  }

  // Which of 32 keys stands in a column of a half's scores.
  static constexpr int key(int half, int column) { return half * 16 + column; }

  // Writes what 16 keys' scores begin with, from a multiple of 16 on, into a row for all keys.
  static void store_keys(Vec starts, int first, float* row) { starts.store(row + first); }
};

// bfloat16: a share's bits themselves, as whole numbers of 16 bits. 256 * (x + 127), rounded, is 2^x's exponent and, behind
// it, 8 bits of x's fraction f. What 2^f has in their place is less by a number that a table of 64 knows: 1.8e-3 relative in
// the mean, where rounding to bfloat16 alone makes 1.7e-3 (Schraudolph, A fast, compact approximation of the exponential
// function, 1999). Packing saturates: shares below 2^-127 become 0. Those above 2^127, and of scores that are not numbers, become
// no numbers, which the sum shows.
alignas(64) constexpr uint8_t kFractions[64] = {
    0, 1, 2, 4, 4, 6, 7, 8, 9, 10, 10, 12, 12, 13, 14, 15, 15, 16, 17, 17, 18, 18, 19, 19, 20, 20, 20, 21, 21, 21, 21, 21,
    21, 22, 22, 21, 21, 21, 21, 21, 21, 20, 20, 19, 19, 19, 18, 17, 17, 16, 15, 15, 13, 13, 12, 11, 9, 9, 7, 6, 5, 3, 2, 1};
template <>
struct Shares<1> {
  static constexpr float kUnit = 256 * 1.4426950408889634f, kStart = 256 * 127;
  static constexpr int kStartStep = 16;  // each key has a line of its own, in the order that packing wants

  static void make(Vec x, Vec y, uint32_t keep, __m512i (&part)[1]) {
    const __m512i bits = _mm512_packus_epi32(whole(x), whole(y));
    const __m512i over =
        _mm512_maskz_permutexvar_epi8(0x5555555555555555, _mm512_srli_epi16(bits, 2), load_line(kFractions));
    part[0] = _mm512_maskz_srli_epi16(keep, _mm512_subs_epu16(bits, over), 1);
  }

  // Rounded, at most kMost: the minimum of no number and kMost is kMost.
  static __m512i whole(Vec x) {
    constexpr float kMost = 0xffff;
    return _mm512_cvtps_epi32(_mm512_min_ps(x.v, _mm512_set1_ps(kMost)));
  }

  // Packing takes fours from both halves in turn.
  static constexpr int key(int half, int column) { return column / 4 * 8 + half * 4 + column % 4; }

  static void store_keys(Vec starts, int first, float* row) {
    const __m512 halves = _mm512_shuffle_f32x4(starts.v, starts.v, 0b11'01'10'00);
    float* const to = row + first / 32 * 32 + first % 32 / 2;
    _mm256_storeu_ps(to, _mm512_castps512_ps256(halves));
    _mm256_storeu_ps(to + 16, _mm512_extractf32x8_ps(halves, 1));
  }
};
