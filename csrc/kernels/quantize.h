// Rounding to int8, the same on every level: rows of an operand one by one, weights column by column; symmetric, to whole
// numbers in [-127, 127].

constexpr float kInt8Largest = 127;

// A row's scale: its largest number / 127; NaN where a number is NaN or infinite.
inline float row_scale(const GroupedRow& from, int columns) {
  Vec largest = Vec::zero(), broken = Vec::zero();  // broken is NaN where a number is NaN or infinite
  for (int c = 0; c < whole_groups(columns); c += Vec::lanes) {
    const Vec x = Vec::load(from.at(c));
    largest = max(largest, max(x, Vec::zero() - x));
    broken = multiply_add(x, Vec::zero(), broken);
  }
  return largest.largest() / kInt8Largest + broken.sum();
}

// What numbers are multiplied by to become whole ones.
inline float factor_of(float scale) { return scale > 0 ? 1 / scale : 0; }

inline float column_scale(const float* from, int count) {
  float largest = 0, broken = 0;
  for (int k = 0; k < count; k++) {
    const float size = __builtin_fabsf(from[k]);
    if (size > largest) largest = size;
    broken += from[k] * 0;
  }
  return largest / kInt8Largest + broken;
}

inline int8_t to_int8(float x, float factor) {
  const float q = __builtin_rintf(x * factor);
  return q > kInt8Largest ? 127 : q < -kInt8Largest ? -127 : q == q ? (int8_t)q : 0;
}
