// The most that a level's arithmetic can do: multiply-adds on registers alone, on numbers that are neither zero nor grow.

// Enough sums that no multiply-add waits for the one before it, few enough to stay in registers.
constexpr int kPeakSums = Vec::tile_rows * Vec::tile_vecs < 12 ? 8 : 12;

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

double int8_peak(long rounds) {
  alignas(64) int8_t weights[64];
  alignas(64) Dot::Number numbers[64];
  for (int i = 0; i < 64; i++) weights[i] = i % 2 ? 3 : -3, numbers[i] = 7;
  const Dot x = Dot::repeat(numbers), w = Dot::load_weights(weights);
  const int32_t zeros[16] = {};
  Dot sum[kPeakSums];
  for (int i = 0; i < kPeakSums; i++) sum[i] = Dot::load(zeros);
  for (long round = 0; round < rounds; round++)
#pragma GCC unroll 16
    for (int i = 0; i < kPeakSums; i++) sum[i] = dot(sum[i], x, w);
  volatile float kept = 0;
  for (int i = 0; i < kPeakSums; i++) kept = sum[i].to_float().sum();
  (void)kept;
  return 2.0 * rounds * kPeakSums * Vec::lanes * Dot::depth;
}
