// Tile instructions. All eight tiles are 16 rows of 64 bytes; what a product doesn't need is thrown away.
//
// By hand, as GCC's own don't tell the compiler that they read and write memory.

constexpr int kTileRows = 16;
constexpr int kTileBytes = 1024;
constexpr int kLine = 64;  // bytes of a tile's row, and of a cache line

template <int T>
inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}

template <int T>
inline void tile_load(const void* from, ptrdiff_t stride = kLine) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}

// Of numbers that pass by once: leaves the first-level cache to those that stay.
template <int T>
inline void tile_stream(const void* from, ptrdiff_t stride = kLine) {
  asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}

template <int T>
inline void tile_store(void* to, ptrdiff_t stride = kLine) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}

// sum += x * w: 16 rows x 32 bfloat16, by 16 pairs of rows x 16 columns, to float32.
template <int Sum, int X, int W>
inline void tile_dot_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(X), "i"(W));
}

// sum += x * w: 16 rows x 64 int8, by 16 fours of rows x 16 columns, to int32.
template <int Sum, int X, int W>
inline void tile_dot_int8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(X), "i"(W));
}

// Other libraries in this process set the tiles as they like, so every entry into the engine sets them anew.
void tiles_enter() {
  struct alignas(64) {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int i = 0; i < 8; i++) {
    config.row_bytes[i] = kLine;
    config.rows[i] = kTileRows;
  }
  asm volatile("ldtilecfg %0" ::"m"(config));
}

// A thread with tiles in use costs 8 KiB at every switch and keeps its core from deep sleep.
void tiles_leave() { asm volatile("tilerelease"); }
