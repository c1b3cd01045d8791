// The most that tiles can do with numbers that change from product to product, as a network's do, out of the first-level
// cache. Tiles that stay as they are, or zeros, take less power: the clock rises above what real work can reach.

constexpr int kPeakRun = 8;  // rounds until sums begin anew

template <class Dot>
inline double tile_peak(long rounds, int depth, const void* numbers, Dot dot) {
  const char* tiles = (const char*)numbers;
  tile_load<4>(tiles);
  tile_load<5>(tiles + kTileBytes);
  for (long round = 0; round < rounds; round++) {
    if (round % kPeakRun == 0) {
      tile_zero<0>();
      tile_zero<1>();
      tile_zero<2>();
      tile_zero<3>();
    }
    const char* next = tiles + round % kPeakRun * 2 * kTileBytes;
    tile_load<6>(next);
    tile_load<7>(next + kTileBytes);
    dot();
  }
  return 2.0 * rounds * 4 * 16 * 16 * depth;
}

// In [-1, 1).
struct PeakNumbers {
  alignas(64) uint16_t bf16[2 * kPeakRun][kTileBytes / 2];
  alignas(64) int8_t int8[2 * kPeakRun][kTileBytes];
  PeakNumbers() {
    uint32_t state = 1;
    const auto next = [&] { return (float)(int32_t)(state = state * 1664525 + 1013904223) * 0x1p-31f; };
    for (auto& tile : bf16)
      for (uint16_t& bits : tile) {
        const float x = next();
        uint32_t wide;
        __builtin_memcpy(&wide, &x, sizeof wide);
        bits = wide >> 16;
      }
    for (auto& tile : int8)
      for (int8_t& number : tile) number = (int8_t)(next() * 127);
  }
};

double bf16_tile_peak(long rounds) {
  return tile_peak(rounds, 32, PeakNumbers().bf16, [] {
    tile_dot_bf16<0, 4, 6>();
    tile_dot_bf16<1, 4, 7>();
    tile_dot_bf16<2, 5, 6>();
    tile_dot_bf16<3, 5, 7>();
  });
}

// Three products of parts make one of float32.
double float32_tile_peak(long rounds) { return bf16_tile_peak(rounds) / 3; }

double int8_tile_peak(long rounds) {
  return tile_peak(rounds, 64, PeakNumbers().int8, [] {
    tile_dot_int8<0, 4, 6>();
    tile_dot_int8<1, 4, 7>();
    tile_dot_int8<2, 5, 6>();
    tile_dot_int8<3, 5, 7>();
  });
}
