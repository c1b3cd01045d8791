// A vector of 4 floats in the compiler's own vector type: any CPU, no intrinsics.

struct Vec {
  static constexpr int lanes = 4;
  static constexpr int tile_rows = 2;  // 2 rows x 4 vectors of sums stay in 16 registers
  static constexpr int tile_vecs = 4;
  typedef float Floats __attribute__((vector_size(16)));
  typedef int32_t Ints __attribute__((vector_size(16)));
  Floats v;

  static Vec zero() { return {Floats{}}; }
  static Vec all(float x) { return {Floats{x, x, x, x}}; }
  static Vec load(const float* p) {
    Vec r;
    __builtin_memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  static Vec load_f16(const uint16_t* p) {
    Vec r;
    for (int i = 0; i < lanes; i++) r.v[i] = half(p[i]);
    return r;
  }
  static Vec load_bf16(const uint16_t* p) {
    Ints bits = {p[0] << 16, p[1] << 16, p[2] << 16, p[3] << 16};
    return {(Floats)bits};
  }
  void store(float* p) const { __builtin_memcpy(p, &v, sizeof v); }

  // The first n lanes (n may be anything); the others hold `rest`.
  Vec first(int n, float rest = 0) const {
    Vec r = all(rest);
    for (int i = 0; i < lanes && i < n; i++) r.v[i] = v[i];
    return r;
  }
  float sum() const { return (v[0] + v[2]) + (v[1] + v[3]); }
  float largest() const {
    float r = v[0];
    for (int i = 1; i < lanes; i++) r = v[i] > r ? v[i] : r;
    return r;
  }

  // Rewrites a half-precision number's bits as a float's; subnormals are scaled by a product.
  static float half(uint16_t h) {
    uint32_t sign = uint32_t(h & 0x8000) << 16, rest = h & 0x7fff;
    uint32_t bits = rest >= 0x7c00 ? 0x7f800000 | rest << 13 : (rest << 13) + (112u << 23);
    float r;
    if (rest < 0x400) {
      r = float(rest) * 0x1p-24f;
      __builtin_memcpy(&bits, &r, 4);
    }
    bits |= sign;
    __builtin_memcpy(&r, &bits, 4);
    return r;
  }
};

inline Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
inline Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
inline Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
inline Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
inline Vec multiply_add(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
// As the x86 instructions do, both give the second number where one is not a number.
inline Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
inline Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
inline Vec round(Vec a) {
  Vec magic = Vec::all(0x1.8p23f);  // adding it pushes the fraction out
  return {(a.v + magic.v) - magic.v};
}
// 2^n for whole n in [-126, 127].
inline Vec power_of_two(Vec n) {
  Vec::Ints e = __builtin_convertvector(n.v, Vec::Ints);
  return {(Vec::Floats)((e + 127) << 23)};
}

// 4 sums of products of whole numbers, one a lane.
struct Dot {
  typedef int32_t Number;
  static constexpr int depth = 1;
  static constexpr int offset = 0;
  Vec::Ints v;

  static Dot load(const int32_t* p) { return {Vec::Ints{p[0], p[1], p[2], p[3]}}; }
  static Dot load_weights(const int8_t* p) { return {Vec::Ints{p[0], p[1], p[2], p[3]}}; }
  static Dot repeat(const Number* p) { return {Vec::Ints{*p, *p, *p, *p}}; }
  // Rounds x, which lies in [-127, 127].
  static void store(Vec x, Number* p) {
    const Vec rounded = round(x);
    for (int i = 0; i < Vec::lanes; i++) p[i] = rounded.v[i] == rounded.v[i] ? (int32_t)rounded.v[i] : 0;
  }
  Vec to_float() const { return {__builtin_convertvector(v, Vec::Floats)}; }
};

inline Dot dot(Dot sum, Dot x, Dot weights) { return {sum.v + x.v * weights.v}; }
