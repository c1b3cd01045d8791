// A vector of 16 floats in AVX-512 registers.

struct Vec {
  static constexpr int lanes = 16;
  static constexpr int tile_rows = 12;  // 12 rows x 2 vectors of sums stay in 32 registers
  static constexpr int tile_vecs = 2;
  __m512 v;

  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec all(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
  static Vec load_bf16(const uint16_t* p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(wide, 16))};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }

  // The first n lanes (n may be anything); the others hold `rest`.
  Vec first(int n, float rest = 0) const {
    const __mmask16 keep = n >= lanes ? 0xffff : n <= 0 ? 0 : (1u << n) - 1;
    return {_mm512_mask_mov_ps(_mm512_set1_ps(rest), keep, v)};
  }
  float sum() const { return _mm512_reduce_add_ps(v); }
  float largest() const { return _mm512_reduce_max_ps(v); }
};

inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec round(Vec a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// 2^n for whole n in [-126, 127].
inline Vec power_of_two(Vec n) { return {_mm512_scalef_ps(_mm512_set1_ps(1), n.v)}; }

// 16 sums of products of whole numbers: 4 of an operand, shifted by 128 to lose their sign, times 4 of a weight, a lane.
struct Dot {
  typedef uint8_t Number;
  static constexpr int depth = 4;
  static constexpr int offset = 128;
  __m512i v;

  static Dot load(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
  static Dot load_weights(const int8_t* p) { return {_mm512_loadu_si512(p)}; }
  static Dot repeat(const Number* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, sizeof bits);
    return {_mm512_set1_epi32(bits)};
  }
  // Rounds x, which lies in [-127, 127].
  static void store(Vec x, Number* p) {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v));
    _mm_storeu_si128((__m128i*)p, _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
  }
  Vec to_float() const { return {_mm512_cvtepi32_ps(v)}; }
};

// By hand, as GCC 12 copies the sums to and fro around its own _mm512_dpbusd_epi32, which halves the speed.
inline Dot dot(Dot sum, Dot x, Dot weights) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(x.v), "v"(weights.v));
  return sum;
}
