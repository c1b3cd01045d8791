// The most that a level's arithmetic can do: multiply-adds on registers, or in int8 on the first-level cache, of numbers that
// are neither zero nor grow.

// Enough sums that no multiply-add waits for the one before it, few enough to stay in registers.
constexpr int kPeakSums = 12;

// Runs `rounds` rounds and returns the operations done: two for each multiply-add.
double float32_peak(long rounds) {
  const Vec shrink = Vec::all(0.999f), add = Vec::all(0.001f);
  Vec sum[kPeakSums];
  for (int i = 0; i < kPeakSums; i++) sum[i] = Vec::all(1 + i * 0.01f);
  for (long round = 0; round < rounds; round++)
#pragma GCC unroll 16
    for (int i = 0; i < kPeakSums; i++) sum[i] = multiply_add(sum[i], shrink, add);
  volatile float kept = 0;  // or the compiler would leave all of it out
  for (int i = 0; i < kPeakSums; i++) kept = sum[i].sum();
  (void)kept;
  return 2.0 * rounds * kPeakSums * Vec::lanes;
}

// What is multiplied changes its place from round to round, or the compiler would multiply once.
double int8_peak(long rounds) {
  int8_t weights[kInt8Panel + 2 * Vec::lanes * Dot::depth];
  Dot::Number numbers[(kPeakSums / 2 + 1) * Dot::depth];
  for (size_t i = 0; i < sizeof weights; i++) weights[i] = i % 2 ? 3 : -3;
  for (Dot::Number& number : numbers) number = 7;
  const int32_t zeros[Vec::lanes] = {};
  Dot sum[kPeakSums];
  for (int i = 0; i < kPeakSums; i++) sum[i] = Dot::load(zeros);
#pragma GCC unroll 4
  for (long round = 0; round < rounds; round++) {
    const int8_t* w = weights + (round & 1) * kInt8Panel;
    const Dot::Number* x = numbers + (round & 1) * Dot::depth;
    const Dot columns[2] = {Dot::load_weights(w), Dot::load_weights(w + Vec::lanes * Dot::depth)};
#pragma GCC unroll 16
    for (int i = 0; i < kPeakSums; i++) sum[i] = dot(sum[i], Dot::repeat(x + i / 2 * Dot::depth), columns[i % 2]);
  }
  volatile float kept = 0;
  for (int i = 0; i < kPeakSums; i++) kept = sum[i].to_float().sum();
  (void)kept;
  return 2.0 * rounds * kPeakSums * Vec::lanes * Dot::depth;
}
