// While it lives, this thread rounds to nearest and treats subnormal numbers as zero, whatever the host program set: so
// results are the same in every thread, and weights near zero cost no traps.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bothways {

class FloatMode {
#if defined(__x86_64__)
 public:
  FloatMode() { _mm_setcsr(kFlushToZero | kZeroInputs | kNoTraps); }
  ~FloatMode() { _mm_setcsr(before_); }
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
  static constexpr unsigned kFlushToZero = 0x8000, kZeroInputs = 0x40, kNoTraps = 0x1f80;
  const unsigned before_ = _mm_getcsr();
#endif
};

}  // namespace bothways
