// A vector of 8 floats in AVX2 and FMA registers.

struct Vec {
  static constexpr int lanes = 8;
  static constexpr int tile_rows = 6;  // 6 rows x 2 vectors of sums stay in 16 registers
  static constexpr int tile_vecs = 2;
  __m256 v;

  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec all(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load_f16(const uint16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p))}; }
  static Vec load_bf16(const uint16_t* p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(wide, 16))};
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }

  // The first n lanes (n may be anything); the others hold `rest`.
  Vec first(int n, float rest = 0) const {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 keep = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane));
    return {_mm256_blendv_ps(_mm256_set1_ps(rest), v, keep)};
  }
  float sum() const {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
  }
  float largest() const {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
  }
};

inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// 2^n for whole n in [-126, 127].
inline Vec power_of_two(Vec n) {
  __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(e, 23))};
}

// 8 sums of products of whole numbers, 2 a lane. In 16 bits, as the instruction for 8 bits saturates.
struct Dot {
  typedef int16_t Number;
  static constexpr int depth = 2;
  static constexpr int offset = 0;
  __m256i v;

  static Dot load(const int32_t* p) { return {_mm256_loadu_si256((const __m256i*)p)}; }
  static Dot load_weights(const int8_t* p) { return {_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p))}; }
  static Dot repeat(const Number* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return {_mm256_set1_epi32(bits)};
  }
  // Rounds x, which lies in [-127, 127].
  static void store(Vec x, Number* p) {
    const __m256i wide = _mm256_cvtps_epi32(x.v);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128((__m128i*)p, words);
  }
  Vec to_float() const { return {_mm256_cvtepi32_ps(v)}; }
};

inline Dot dot(Dot sum, Dot x, Dot weights) {
  return {_mm256_add_epi32(sum.v, _mm256_madd_epi16(x.v, weights.v))};
}
