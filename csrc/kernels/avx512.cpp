// Level avx512: x86-64-v4 and VNNI.
#include <immintrin.h>
#include "cpu.h"
#include "kernels.h"

namespace bothways::avx512 {
namespace {  // nothing but the tables leaves this translation unit
#include "vec_avx512.h"

#include "ops.h"

#include "gemm_f32.h"

#include "quantize.h"

#include "gemm_int8.h"

#include "relative.h"

#include "vectors_f32.h"

#include "attention_f32.h"

#include "peak.h"

#include "tables.h"

constexpr unsigned kNeeds = cpu::kX86V3 | cpu::kX86V4 | cpu::kVnni;
}  // namespace

constinit const Kernels kernels[kDtypes] = {
    float32_table("avx512", kNeeds), bfloat16_table("avx512", kNeeds), int8_table("avx512", kNeeds)};
}  // namespace bothways::avx512
